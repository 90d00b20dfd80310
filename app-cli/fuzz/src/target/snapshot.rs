//! Snapshots of format 2: manifests, indexes and streams come from machines, and machines are broken into.

use std::sync::Arc;

use burstflare_ports::wire::snapshot::stream::{Decoder, Order};
use burstflare_ports::wire::snapshot::tree::Reader;
use burstflare_ports::wire::snapshot::{Hash, Have, Index, Missing, manifest};

use super::Target;

const MANIFEST: &str = include_str!("../../../../ports/src/wire/snapshot/golden/manifest.hex");
const INDEX: &str = include_str!("../../../../ports/src/wire/snapshot/golden/index.hex");
const TREE: &str = include_str!("../../../../ports/src/wire/snapshot/golden/tree.hex");

/// The first byte says what the rest is.
pub(super) const SNAPSHOT: Target = Target {
    name: "snapshot",
    run,
    seeds: || {
        let (manifest, index) = (bytes(MANIFEST), bytes(INDEX));
        let tagged = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
        let body = |bytes: &[u8]| bytes[..bytes.len().saturating_sub(32)].to_vec();
        vec![
            tagged(0, &manifest),
            tagged(1, &body(&manifest)),
            tagged(2, &index),
            tagged(3, &body(&index)),
            tagged(4, &manifest),
            tagged(5, &[7; 80]),
            tagged(6, &bytes(TREE)),
        ]
    },
    words: &[b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\0\0\0", b"\0\0\0\x01", b"\0\x10\0\0", b"workspace"],
    longest: 4096,
};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.bytes().filter_map(|digit| char::from(digit).to_digit(16)?.try_into().ok()).collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}

/// With the checksum that it should have: what lies behind it is read.
fn closed(body: &[u8]) -> Vec<u8> {
    [body, &Hash::of(body).0].concat()
}

fn run(input: &[u8]) {
    let Some((which, rest)) = input.split_first() else { return };
    match which % 7 {
        0 => whole(rest),
        1 => whole(&closed(rest)),
        2 => index(rest),
        3 => index(&closed(rest)),
        4 => {
            for order in [Order::ManifestFirst, Order::PacksFirst] {
                let read = |piece: usize| {
                    let mut decoder = Decoder::new(order);
                    let pushed = rest.chunks(piece).try_for_each(|piece| decoder.push(piece).map(drop));
                    pushed.is_ok() && decoder.finish().is_ok()
                };
                assert_eq!(read(rest.len().max(1)), read(5), "the verdict depends on no piece's length");
            }
        }
        5 => {
            drop(Missing::decode_all(rest));
            for record in rest.as_chunks::<{ Have::SIZE }>().0 {
                drop(Have::decode(record));
            }
        }
        _ => {
            let Ok((tables, _)) = manifest::decode(&bytes(MANIFEST)) else { return };
            let Ok(mut reader) = Reader::new(rest, Arc::new(tables)) else { return };
            let mut entries = 0;
            while let Ok(Some(_)) = reader.next() {
                entries += 1;
                assert!(entries <= rest.len(), "more entries than bytes");
            }
        }
    }
}

fn whole(bytes: &[u8]) {
    if let Ok((tables, tree)) = manifest::decode(bytes) {
        assert_eq!(manifest::encode(&tables, &tree), bytes, "a manifest has one form");
    }
}

fn index(bytes: &[u8]) {
    if let Ok(index) = Index::decode(bytes) {
        assert_eq!(index.encode(), bytes, "an index has one form");
    }
}
