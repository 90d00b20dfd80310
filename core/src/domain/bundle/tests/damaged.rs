use proptest::prelude::*;

use super::*;

/// Small, with compressed blocks of every kind in it.
fn sample() -> Vec<u8> {
    let text: String = (0..400).map(|at| format!("line {} of {}\n", at * at % 97, at % 13)).collect();
    let noise: Vec<u8> = (0..600u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    Tar::new()
        .file("text", text.as_bytes())
        .file("noise", &noise)
        .file("zeros", &[0; 4000])
        .link("l", "text")
        .end()
}

#[test]
fn every_prefix_is_cut_off() {
    for packed in [zst(&sample()), gz(&sample())] {
        assert!(inspect(&packed).is_ok());
        for length in 1..packed.len() {
            assert_eq!(inspect(&packed[..length]), Err(BundleError::Pack(PackError::Truncated)), "{length}");
        }
    }
}

/// A flipped bit is noticed, or it is one that means nothing (a time in gzip's header).
#[test]
fn flipped_bits_are_noticed() {
    for packed in [zst(&sample()), gz(&sample())] {
        let good = inspect(&packed).expect("good");
        let mut unnoticed = 0;
        for at in 0..packed.len() {
            for bit in 0..8 {
                let mut bad = packed.clone();
                bad[at] ^= 1 << bit;
                if let Ok(found) = inspect(&bad) {
                    assert_eq!(found, good, "byte {at}, bit {bit}");
                    unnoticed += 1;
                }
            }
        }
        assert!(unnoticed <= 8 * 8, "{unnoticed}");
    }
}

#[test]
fn flipped_bits_of_headers_are_noticed() {
    let tar = Tar::new().end();
    let good = inspect(&zst(&tar)).expect("good");
    for at in (0..512).chain(1024..2048) {
        for bit in 0..8 {
            let mut bad = tar.clone();
            bad[at] ^= 1 << bit;
            match inspect(&zst(&bad)) {
                Err(BundleError::Tar { problem: TarError::Checksum | TarError::Trailing, .. }) => {}
                // The padding of the checksum's own field, before or behind its digits.
                Ok(found) if (148..156).contains(&at) => assert_eq!(found.manifest, good.manifest),
                other => panic!("byte {at}, bit {bit}: {other:?}"),
            }
        }
    }
}

fn hostile_piece() -> impl Strategy<Value = Vec<u8>> {
    let kinds = b"01234567xgLKSXVD\0";
    let number = prop_oneof![Just("00000000000".to_owned()), "[0-7 ]{11}", "[\\x00-\\x7f]{11}"];
    let name = "(\\./|\\.\\./|/|a|b|flare\\.toml|link|l/){0,5}";
    (name, 0..kinds.len(), number, name, proptest::collection::vec(any::<u8>(), 0..700)).prop_map(
        move |(name, kind, number, link, content)| {
            let block = Block::new(&name, kinds[kind], content.len() as u64).link(&link);
            let block = if number.starts_with('0') { block } else { block.with(124, number.as_bytes()) };
            Tar::default().block(block).content(&content).0
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_answered(head in 0usize..4, bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let heads = [&b""[..], b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x04\x58"];
        prop_assert!(inspect(&[heads[head], &bytes[..]].concat()).is_err());
    }

    #[test]
    fn any_tar_is_answered(pieces in proptest::collection::vec(hostile_piece(), 0..6)) {
        let tar = [&Tar::new().0[..], &pieces.concat(), &[0; 1024]].concat();
        let whole = inspect(&gz(&tar));
        let bytewise: Vec<usize> = (0..gz(&tar).len()).collect();
        prop_assert_eq!(&inspect_in(BundleLimits::default(), &gz(&tar), &bytewise), &whole);
        if let Ok(found) = whole {
            prop_assert_eq!(found.manifest, "base = 'default'\n");
        }
    }

    /// Damage behind the checksums: without them, the decoders themselves meet it.
    #[test]
    fn damaged_streams_are_answered(
        level in 1i32..19,
        gzip: bool,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let tar = sample();
        let mut packed = if gzip { gz(&tar) } else { ::zstd::encode_all(&tar[..], level).expect("packed") };
        let length = packed.len();
        for (at, byte) in &damage {
            packed[at.index(length)] = *byte;
        }
        let whole = inspect(&packed);
        prop_assert_eq!(&inspect_in(BundleLimits::default(), &packed, &[cut.index(length)]), &whole);
        if let Err(BundleError::Pack(PackError::Truncated) | BundleError::TooLarge(_)) = whole {
            prop_assert!(!packed.is_empty());
        }
    }
}
