//! What the agent reads: packets of file transfer, archives of whole trees.

use super::Target;

pub(super) const SFTP: Target = Target {
    name: "sftp",
    run: burstflare_agent::fuzzing::sftp,
    seeds: || {
        let packet = |kind: u8, body: &[u8]| {
            let length = u32::try_from(body.len() + 1).unwrap_or(0);
            [&length.to_be_bytes()[..], &[kind], body].concat()
        };
        let path = b"\0\0\0\x04/tmp";
        vec![
            packet(1, &[0, 0, 0, 3]),
            packet(3, &[&[0, 0, 0, 1], &path[..], &[0, 0, 0, 2, 0, 0, 0, 0]].concat()),
            packet(9, &[&[0, 0, 0, 2], &path[..], &[0, 0, 0, 15], &[7; 28]].concat()),
            packet(
                200,
                &[&[0, 0, 0, 3], &b"\0\0\0\x18posix-rename@openssh.com"[..], &path[..], &path[..]].concat(),
            ),
        ]
    },
    words: &[
        b"\0\0\0\x05",
        b"\x80\0\0\0",
        b"\xff\xff\xff\xff",
        b"posix-rename@openssh.com",
        b"limits@openssh.com",
        b"\0\x04\0\0",
        b"\0\0\0\0",
    ],
    longest: 2048,
};

/// The first byte says whether the rest is an archive or one that has to be compressed first.
pub(super) const TREE: Target = Target {
    name: "tree",
    run: |bytes| {
        let Some((which, rest)) = bytes.split_first() else { return };
        if which % 2 == 0 {
            burstflare_agent::fuzzing::restore(rest);
        } else if let Ok(packed) = zstd::encode_all(rest, 1) {
            burstflare_agent::fuzzing::restore(&packed);
        }
    },
    seeds: || {
        let packed = burstflare_agent::fuzzing::captured();
        let plain = zstd::decode_all(packed.as_slice()).unwrap_or_default();
        vec![[&[0], packed.as_slice()].concat(), [&[1], plain.as_slice()].concat()]
    },
    words: &[
        b".flare-manifest.jsonl",
        b"ustar\x0000",
        b"././@LongLink",
        b"mtime=",
        b"workspace/",
        b"home/flare",
        b"..",
        b"{\"format\":1",
        b"\"kind\":\"link\"",
        b"\"blake3\":",
    ],
    longest: 16 << 10,
};
