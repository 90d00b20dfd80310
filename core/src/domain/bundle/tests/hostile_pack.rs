use burstflare_ports::wire::bundle::BundleRefusal;

use super::*;

fn pack_error(packed: &[u8]) -> PackError {
    match inspect(packed) {
        Err(BundleError::Pack(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_formats_are_named() {
    assert_eq!(inspect(b""), Err(BundleError::Empty));
    for (head, name) in [
        (&b"PK\x03\x04...."[..], "a zip archive"),
        (b"BZh91AY", "compressed by bzip2"),
        (b"\xfd7zXZ\0", "compressed by xz"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-zip archive"),
        (b"{\"a\": 1}", "JSON"),
        (b"flare.toml", "of an unknown format"),
        (b"x", "of an unknown format"),
        (b"PK", "a zip archive"),
    ] {
        assert_eq!(inspect(head), Err(BundleError::Format(name)), "{head:?}");
    }
    assert_eq!(inspect(&Tar::new().end()), Err(BundleError::Format("of an unknown format")));
    for head in [&b"\x1f"[..], b"\x1f\x8b", b"\x1f\x8b\x08", b"\x28", b"\x28\xb5\x2f"] {
        assert_eq!(pack_error(head), PackError::Truncated);
    }
    assert!(matches!(inspect(&zst(b"This is text, no tar.").repeat(30)), Err(BundleError::Tar { .. })));
}

#[test]
fn packed_bytes_are_bounded() {
    let packed = gz(&Tar::new().end());
    let with = |limit: usize| {
        inspect_in(BundleLimits { packed: limit as u64, ..BundleLimits::default() }, &packed, &[10, 20])
    };
    assert!(with(packed.len()).is_ok());
    assert_eq!(with(packed.len() - 1), Err(BundleError::TooLarge(packed.len() as u64 - 1)));
}

#[test]
fn a_refusal_is_final() {
    let mut inspector = Inspector::new(BundleLimits::default());
    let packed = zst(&Tar::default().file("../x", b"").end());
    let refusal = inspector.push(&packed).expect_err("outside");
    assert_eq!(inspector.push(&zst(&Tar::new().end())), Err(refusal.clone()));
    assert_eq!(inspector.push(b""), Err(refusal.clone()));
    assert_eq!(inspector.finish(), Err(refusal));
}

/// Zeros: a thousand to one in gzip, ten thousand to one in zstd.
#[test]
fn bombs_are_refused() {
    let zeros = vec![0; 80 << 20];
    let tar = Tar::new().file("zeros", &zeros).end();
    for packed in [zst(&tar), gz(&tar)] {
        assert!(packed.len() < 100 << 10);
        assert_eq!(inspect(&packed), Err(BundleRefusal::Ratio(200).into()));
        // Members and frames are no way around it.
        let half = tar.len() / 2;
        let parts = if packed[0] == 0x1f {
            [gz(&tar[..half]), gz(&tar[half..])]
        } else {
            [zst(&tar[..half]), zst(&tar[half..])]
        };
        assert_eq!(inspect(&parts.concat()), Err(BundleRefusal::Ratio(200).into()));
    }
    // Small ones are harmless.
    assert!(inspect(&zst(&Tar::new().file("zeros", &zeros[..30 << 20]).end())).is_ok());
}

#[test]
fn unpacked_bytes_are_bounded() {
    let entries = EntryLimits { expanded: 1 << 20, ..EntryLimits::default() };
    let limits = BundleLimits { entries, ..BundleLimits::default() };
    let verdict = |tar: &[u8]| {
        let found = inspect_in(limits, &zst(tar), &[]);
        assert_eq!(found.is_ok(), inspect_in(limits, &gz(tar), &[]).is_ok());
        found.map(|found| found.entries)
    };
    assert_eq!(verdict(&Tar::new().file("a", &[1; 1_000_000]).end()), Ok(2));
    let claimed = Tar::new().block(Block::new("a", b'0', 2 << 20)).0;
    assert_eq!(
        verdict(&claimed),
        Err(BundleRefusal::Expanded(1 << 20).into()),
        "before any of it is unpacked"
    );
    let padded = [Tar::new().end(), vec![0; 1 << 20]].concat();
    assert_eq!(verdict(&padded), Err(BundleError::Unpacked(1 << 20)), "padding counts");
    let headers = (0..2100).fold(Tar::new(), |tar, at| tar.folder(&format!("d{at}"))).end();
    assert_eq!(verdict(&headers), Err(BundleError::Unpacked(1 << 20)), "headers count");
}

/// A frame by hand: descriptor and fields, then raw blocks.
fn frame(header: &[u8], blocks: &[&[u8]]) -> Vec<u8> {
    let mut frame = 0xfd2f_b528u32.to_le_bytes().to_vec();
    frame.extend_from_slice(header);
    for (at, block) in blocks.iter().enumerate() {
        let head = ((block.len() as u32) << 3) | u32::from(at + 1 == blocks.len());
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    frame
}

#[test]
fn zstd_headers_are_held_to_the_standard() {
    let tar = Tar::new().end();
    let (a, b) = tar.split_at(1000);
    let size = (tar.len() as u16 - 256).to_le_bytes();
    // A window of 8 MiB; one segment of known size; empty blocks.
    assert!(inspect(&frame(&[0, 13 << 3], &[a, b])).is_ok());
    assert!(inspect(&frame(&[0x60, size[0], size[1]], &[a, b, b""])).is_ok());
    for (header, error) in [
        (&[0, 14 << 3][..], PackError::Window),
        (&[0, (13 << 3) | 1], PackError::Window),
        (&[0, 0xff], PackError::Window),
        (&[0xe0, 0, 0, 0x80, 0, 0, 0, 0, 0x01], PackError::Window),
        (&[0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], PackError::Window),
        (&[0x01, 13 << 3, 7], PackError::Dictionary),
        (&[0x63, 7, 0, 0, 0, size[0], size[1]], PackError::Dictionary),
        (&[0x08, 13 << 3], PackError::Header),
        (&[0x60, size[0], size[1] ^ 1], PackError::Size),
        (&[0x60, size[0] ^ 1, size[1]], PackError::Size),
        (&[0x04, 13 << 3], PackError::Truncated),
    ] {
        assert_eq!(pack_error(&frame(header, &[a, b])), error, "{header:?}");
    }
    let checksum = frame(&[0x04, 13 << 3], &[a, b]);
    assert_eq!(pack_error(&[&checksum[..], &[1, 2, 3, 4][..]].concat()), PackError::Checksum);
    let mut reserved = frame(&[0, 13 << 3], &[a, b]);
    reserved[6] |= 6;
    assert_eq!(pack_error(&reserved), PackError::Damaged);
    let huge = frame(&[0, 13 << 3], &[&vec![0; (128 << 10) + 1]]);
    assert_eq!(pack_error(&huge), PackError::Damaged);

    let mut encoder = ::zstd::Encoder::new(Vec::new(), 3).expect("level");
    encoder.long_distance_matching(true).expect("flag");
    encoder.window_log(27).expect("flag");
    encoder.write_all(&tar).expect("memory");
    let long = encoder.finish().expect("memory");
    assert_eq!(pack_error(&long), PackError::Window);
}

#[test]
fn gzip_headers_are_held_to_the_standard() {
    let good = gz(&Tar::new().end());
    for (at, byte, error) in
        [(2, 7, PackError::Header), (3, 0x20, PackError::Header), (3, 0x80, PackError::Header)]
    {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(pack_error(&bad), error);
    }
    let end = good.len();
    for (at, error) in
        [(end - 8, PackError::Checksum), (end - 4, PackError::Size), (end - 1, PackError::Size)]
    {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(pack_error(&bad), error);
    }
}

#[test]
fn nothing_follows_the_stream() {
    let tar = Tar::new().end();
    for good in [zst(&tar), gz(&tar)] {
        for garbage in [&b"x"[..], b"\0\0\0\0\0\0", b"garbage"] {
            let packed = [&good[..], garbage].concat();
            let expected =
                if garbage.len() < 4 && good[0] == 0x28 { PackError::Truncated } else { PackError::Trailing };
            assert_eq!(pack_error(&packed), expected);
        }
    }
    // What follows is checked as tar where it is another frame.
    let more = [zst(&tar), zst(b"more")].concat();
    assert!(matches!(inspect(&more), Err(BundleError::Tar { problem: TarError::Trailing, .. })));
    let other = [gz(&tar), zst(&tar)].concat();
    assert_eq!(pack_error(&other), PackError::Trailing);
}
