//! `flare.toml`.

use burstflare_core::domain::manifest::{ManifestError, ManifestLimits, parse_bytes};

use super::{Target, texts};

pub(super) const MANIFEST: Target = Target {
    name: "manifest",
    run,
    seeds,
    words: &[
        b"base",
        b"setup",
        b"on_start",
        b"sleep_after",
        b"persist",
        b"[env]",
        b"[[ports]]",
        b"port",
        b"name",
        b"visibility",
        b"private",
        b"[resources]",
        b"cpu",
        b"memory",
        b"disk",
        b"GiB",
        b"never",
        b"/workspace",
        b"/home/flare",
        b"\"\"\"",
        b"'''",
        b"\\u0000",
        b"1e999",
        b"nan",
        b"0x7fffffffffffffff",
        b"= [",
        b"{",
        b"}",
        b"\r\n",
        b"\xef\xbb\xbf",
    ],
    longest: 4096,
};

fn run(bytes: &[u8]) {
    let limits = ManifestLimits::default();
    match parse_bytes(bytes, &limits) {
        Ok(spec) => {
            let text = serde_json::to_string(&spec).expect("a record is written");
            let back = serde_json::from_str(&text).expect("what was written is read");
            assert_eq!(spec, back, "it comes back from the store");
        }
        Err(error) => {
            assert!((1..=ManifestError::MOST).contains(&error.problems().len()));
            assert!(error.to_string().len() < 64 << 10, "no message is as long as what it is about");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = texts(&[
        "",
        "base = \"default\"\nsetup = [\"cargo fetch\", \"make deps\"]\non_start = \"make serve &\"\nsleep_after = \"30m\"\npersist = [\"/workspace\", \"/home/flare\"]\n[env]\nRUST_LOG = \"info\"\n[[ports]]\nport = 3000\nname = \"web\"\nvisibility = \"private\"\n[resources]\ncpu = 1.0\nmemory = \"1GiB\"\ndisk = \"4GiB\"\n",
        "sleep_after = \"never\"\n[resources]\ncpu = 2\nmemory = 1073741824\n",
        "setup = '''\nmake\n'''\nsetpu = [1, {a = 2}]\n[[ports]]\nport = 99999\n",
        "dockerfile = \"Dockerfile\"\n[env]\n\"a=b\" = \"\\u0000\"\n",
    ]);
    all.push(b"\xff\xfeb\0".to_vec());
    all
}
