//! Bundles: compressed archives of a template's folder.

use std::io::Write as _;

use burstflare_core::domain::bundle::{BundleLimits, Inspector};

use super::Target;

pub(super) const BUNDLE: Target = Target {
    name: "bundle",
    run: compressed,
    seeds: packed,
    words: &[b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08", b"\x50\x2a\x4d\x18", b"flare.toml", b"ustar\x0000"],
    longest: 4096,
};

/// Uncompressed archives: what is within gets further when no checksum of the wrapping stands in its way.
pub(super) const TAR: Target = Target {
    name: "tar",
    run: archive,
    seeds: archives,
    words: &[
        b"ustar\x0000",
        b"ustar  \0",
        b"flare.toml",
        b"././@LongLink",
        b"../",
        b"/etc/passwd",
        b"path=",
        b"linkpath=",
        b"size=",
        b"GNU.sparse.major=1",
        b"22 mtime=1700000000.5\n",
        b"0000644\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
    longest: 12 << 10,
};

/// The same answer in one piece and in many, and nothing out of proportion.
fn inspect(bytes: &[u8], piece: usize) -> Result<u64, String> {
    let limits = BundleLimits { packed: 1 << 20, ..BundleLimits::default() };
    let mut inspector = Inspector::new(limits);
    for piece in bytes.chunks(piece.max(1)) {
        if inspector.push(piece).is_err() {
            break;
        }
    }
    match inspector.finish() {
        Ok(found) => {
            assert!(found.manifest.len() as u64 <= limits.manifest);
            assert!(found.entries >= 1 && found.entries <= limits.entries.entries);
            assert_eq!(found.packed_bytes, bytes.len() as u64);
            Ok(found.entries)
        }
        Err(refusal) => {
            assert!(!refusal.code().is_empty() && !refusal.hint().is_empty());
            Err(refusal.to_string())
        }
    }
}

fn compressed(bytes: &[u8]) {
    let whole = inspect(bytes, usize::MAX);
    let first = usize::from(bytes.first().copied().unwrap_or(0)) % 7 + 1;
    assert_eq!(
        whole.is_ok(),
        inspect(bytes, first).is_ok(),
        "the verdict depends on no piece's length: {whole:?}"
    );
}

/// What the edge lets pass, the machine unpacks.
fn archive(bytes: &[u8]) {
    // Stored blocks are copied as they are, so that the archive is read and not the compression.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let wrapped = gzip.write_all(bytes).and_then(|()| gzip.finish()).expect("memory takes it");
    let verdict = inspect(&wrapped, usize::MAX);
    assert_eq!(verdict.is_ok(), inspect(&wrapped, 511).is_ok());
    let unpacked = burstflare_agent::fuzzing::unpack(&wrapped);
    if let (Ok(_), Err(refusal)) = (&verdict, unpacked) {
        panic!("accepted by the edge, refused by the machine: {refusal}");
    }
}

fn tar(members: &[(&str, &[u8], tar::EntryType)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content, kind) in members {
        let mut header = if name.len() % 2 == 0 { tar::Header::new_ustar() } else { tar::Header::new_gnu() };
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_mtime(1_700_000_000);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_size(0);
            let target = std::str::from_utf8(content).expect("a target");
            builder.append_link(&mut header, name, target).expect("memory takes it");
        } else {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, *content).expect("memory takes it");
        }
    }
    if members.len() == 1 {
        // The crate refuses to write a name that leaves the folder.
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..6].copy_from_slice(b"../out");
        header.set_size(1);
        header.set_cksum();
        builder.append(&header, &b"x"[..]).expect("memory takes it");
    }
    builder.into_inner().expect("memory takes it")
}

fn archives() -> Vec<Vec<u8>> {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let manifest: &[u8] = b"setup = [\"true\"]\n";
    let long = format!("{}/{}", "folder".repeat(20), "name".repeat(30));
    let mut pax = Vec::new();
    {
        let mut builder = tar::Builder::new(&mut pax);
        let records: [(&str, &[u8]); 2] = [("path", b"src/main.rs"), ("mtime", b"1700000000.25")];
        builder.append_pax_extensions(records).expect("memory takes it");
        let mut header = tar::Header::new_ustar();
        header.set_size(2);
        header.set_mode(0o644);
        builder.append_data(&mut header, "short", &b"hi"[..]).expect("memory takes it");
        header.set_size(manifest.len() as u64);
        builder.append_data(&mut header, "flare.toml", manifest).expect("memory takes it");
        builder.finish().expect("memory takes it");
    }
    vec![
        tar(&[("flare.toml", manifest, Regular)]),
        tar(&[
            ("flare.toml", b"", Regular),
            ("src", b"", Directory),
            ("src/a", b"a\n", Regular),
            ("link", b"src/a", Symlink),
            ("hard", b"src/a", Link),
        ]),
        tar(&[("flare.toml", b"", Regular), (&long, b"x", Regular)]),
        tar(&[("flare.toml", b"", Regular), ("other", b"", Regular)]),
        pax,
    ]
}

fn packed() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for archive in archives() {
        all.push(zstd::encode_all(archive.as_slice(), 3).expect("memory takes it"));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&archive).expect("memory takes it");
        all.push(gzip.finish().expect("memory takes it"));
    }
    all.push(b"\x50\x2a\x4d\x18\x04\0\0\0skip".to_vec());
    all.push(b"PK\x03\x04".to_vec());
    all
}
