//! The program as it is: the real binary, a real server, the system's OpenSSH.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at surprises and says what it skips"
)]

mod attach;
mod browser;
mod bundle;
mod burst;
mod cloudflare;
mod config_ssh;
mod cp;
mod credentials;
mod direction;
mod docker;
mod exec;
mod files;
mod flare;
mod folder;
mod full_disk;
mod ide;
mod idle;
mod kill_loop;
mod lifecycle;
mod offline;
mod preview;
mod preview_browser;
mod preview_raw;
mod reference;
mod rsync;
mod runbook;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
#[expect(dead_code, reason = "tests of other crates share it")]
#[path = "../../../adapters-local/tests/s3/server.rs"]
mod s3_server;
mod secret;
mod six_lines;
mod smoke;
mod snapshots;
mod ssh;
mod ssh_end;
mod ssh_forward;
mod ssh_resume;
