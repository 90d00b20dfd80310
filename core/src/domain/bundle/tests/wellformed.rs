use std::io::Write as _;

use proptest::prelude::*;

use super::*;

/// A tree as the packers of the house and of others write it.
fn packed_by_tar_crate(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut append = |path: &str, kind, bytes: &[u8]| {
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, bytes).expect("appended");
    };
    append("./", ::tar::EntryType::Directory, b"");
    append("flare.toml", ::tar::EntryType::Regular, b"setup = ['true']\n");
    append("sub/", ::tar::EntryType::Directory, b"");
    for (name, bytes) in files {
        append(&format!("sub/{name}"), ::tar::EntryType::Regular, bytes);
    }
    builder.into_inner().expect("finished")
}

#[test]
fn ordinary_bundles_are_accepted() {
    let tar = Tar::default()
        .folder("./")
        .file("./flare.toml", b"base = 'default'\n")
        .folder("src/")
        .file("src/main.rs", &[b'x'; 3000])
        .file("empty", b"")
        .link("src/up", "../flare.toml")
        .end();
    let found = verdict(&tar).expect("accepted");
    assert_eq!(found.manifest, "base = 'default'\n");
    assert_eq!((found.entries, found.expanded_bytes), (6, 3017));
    assert_eq!(found.packed_bytes, zst(&tar).len() as u64);
}

#[test]
fn every_way_to_write_a_long_name_is_read() {
    let (long, name) = ("d/".repeat(60), "n".repeat(120));
    let deep = format!("{long}{name}");
    let gnu =
        |kind, text: &str| (Block::new("././@LongLink", kind, text.len() as u64 + 1), format!("{text}\0"));
    let (name_block, name_text) = gnu(b'L', &deep);
    let (link_block, link_text) = gnu(b'K', &deep);
    let tars = [
        // pax, after the global header of `git archive`.
        Tar::new()
            .member("pax_global_header", b'g', pax_record("comment", &"0".repeat(40)).as_bytes())
            .pax(&[("path", &deep), ("mtime", "1.5"), ("SCHILY.xattr.user.a", "b")])
            .file("cut", b"abc"),
        Tar::new().pax(&[("linkpath", &deep), ("path", "l")]).link("cut", "cut"),
        Tar::new().pax(&[("size", "3"), ("path", "sized")]).file("cut", b"abc"),
        // GNU.
        Tar::new().block(name_block).content(name_text.as_bytes()).file("cut", b"abc"),
        Tar::new()
            .block(link_block)
            .content(link_text.as_bytes())
            .block(name_block)
            .content(name_text.as_bytes())
            .link("cut", "cut"),
        // The prefix of ustar, and v7 without a magic.
        Tar::new().block(Block::new(&"n".repeat(100), b'0', 3).with(345, &b"p/".repeat(60))).content(b"abc"),
        Tar::new().block(Block::new("old", 0, 3).with(257, &[0; 8])).content(b"abc"),
        // Base 256.
        Tar::new()
            .block(Block::new("big", b'0', 0).with(124, b"\x80\0\0\0\0\0\0\0\0\0\0\x03"))
            .content(b"abc"),
    ];
    for tar in tars {
        let found = verdict(&tar.end()).expect("accepted");
        assert_eq!(found.entries, 2);
    }
}

#[test]
fn prefix_counts_for_posix_only() {
    // GNU keeps times where POSIX has the prefix.
    let gnu = Block::new("flare.toml", b'0', 2).with(257, b"ustar  \0").with(345, b"00000000000\0");
    assert!(verdict(&Tar::default().block(gnu).content(b"#\n").end()).is_ok());
    let posix = Block::new("flare.toml", b'0', 2).with(345, b"prefix");
    assert_eq!(
        verdict(&Tar::default().block(posix).content(b"#\n").end()),
        Err(BundleError::ManifestMissing)
    );
}

#[test]
fn several_frames_are_one_stream() {
    let tar = Tar::new().file("a", &[7; 2000]).end();
    let (head, tail) = tar.split_at(700);
    let skippable = b"\x5a\x2a\x4d\x18\x03\0\0\0xyz";
    let empty = zst(b"");
    let frames = [&zst(head)[..], &skippable[..], &empty[..], &zst(tail)[..], &skippable[..]].concat();
    assert_eq!(inspect(&frames).map(|found| found.entries), Ok(2));
    assert_eq!(inspect(&[&skippable[..], &zst(&tar)[..]].concat()).map(|found| found.entries), Ok(2));
    let members = [gz(head), gz(b""), gz(tail)].concat();
    assert_eq!(inspect(&members).map(|found| found.entries), Ok(2));
    for packed in [frames, members] {
        let bytewise: Vec<usize> = (0..packed.len()).collect();
        assert_eq!(inspect_in(BundleLimits::default(), &packed, &bytewise), inspect(&packed));
    }
}

#[test]
fn every_part_of_a_gzip_header_is_read() {
    let tar = Tar::new().end();
    let mut encoder = flate2::GzBuilder::new()
        .extra(b"extra field".to_vec())
        .filename("bundle.tar")
        .comment("by hand")
        .mtime(1)
        .write(Vec::new(), flate2::Compression::best());
    encoder.write_all(&tar).expect("memory");
    let packed = encoder.finish().expect("memory");
    assert!(inspect(&packed).is_ok());

    // With the checksum of the header, which that builder cannot write.
    let plain = gz(&tar);
    let mut header = plain[..10].to_vec();
    header[3] |= 2;
    let mut crc = flate2::Crc::new();
    crc.update(&header);
    let crc = (crc.sum() as u16).to_le_bytes();
    let with = |crc: [u8; 2]| [&header[..], &crc[..], &plain[10..]].concat();
    assert!(inspect(&with(crc)).is_ok());
    assert_eq!(inspect(&with([crc[0] ^ 1, crc[1]])), Err(BundleError::Pack(PackError::Checksum)));
}

#[test]
fn zstd_levels_up_to_the_window_are_read() {
    let bytes: Vec<u8> =
        (0..3_000_000u32).flat_map(|at| (at.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).collect();
    let tar = Tar::new().file("data", &bytes).end();
    for level in [-5, 1, 3, 19] {
        let packed = ::zstd::encode_all(&tar[..], level).expect("packed");
        let found = inspect(&packed).expect("accepted");
        assert_eq!(found.expanded_bytes, bytes.len() as u64 + 17, "level {level}");
    }
    let known_size = ::zstd::bulk::compress(&tar[..1_000_000], 3).expect("packed");
    assert_eq!(
        inspect(&known_size).map(|_| ()),
        Err(BundleError::Tar { at: 1_000_000, problem: TarError::Truncated })
    );
}

prop_compose! {
    fn tree()(files in proptest::collection::btree_map("[a-z0-9._ \u{e4}-]{0,90}z(/[a-z]{1,80}y){0,2}", content(), 0..12)) -> Vec<(String, Vec<u8>)> {
        // A name that is the folder of another one is no fault of the reader.
        let clash = |name: &str| files.keys().any(|other| other.starts_with(&format!("{name}/")));
        files.iter().filter(|(name, _)| !clash(name)).map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
    }
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..2000),
        (any::<u8>(), 0usize..100_000).prop_map(|(byte, length)| vec![byte; length]),
        "([a-z ]{1,9}\\n){0,300}".prop_map(String::into_bytes),
    ]
}

proptest! {
    /// However the upload is cut, the bundle is the same one.
    #[test]
    fn cuts_do_not_matter(files in tree(), cuts in proptest::collection::vec(0usize..60_000, 0..20), bytewise: bool) {
        let tar = packed_by_tar_crate(&files);
        for packed in [zst(&tar), gz(&tar)] {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (packed.len() + 1)).collect();
            cuts.sort_unstable();
            if bytewise && packed.len() < 5000 {
                cuts = (0..packed.len()).collect();
            }
            let found = inspect_in(BundleLimits::default(), &packed, &cuts);
            prop_assert_eq!(&found, &inspect(&packed));
            let found = found.expect("accepted");
            prop_assert_eq!(found.entries, files.len() as u64 + 3);
            let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
            prop_assert_eq!(found.expanded_bytes, bytes as u64 + 17);
            prop_assert_eq!(found.manifest.as_str(), "setup = ['true']\n");
        }
    }
}
