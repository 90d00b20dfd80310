//! Keys: who may read them, where they go.

use super::{Desk, TURNSTILE, files_with};
use crate::cloudflare::stub::TOKEN;
use crate::flare::run;

#[test]
fn keys_that_others_may_read_are_refused() {
    let desk = Desk::new();
    for mode in [0o640, 0o604, 0o666, 0o620] {
        desk.mode(".env", mode);
        let answer = desk.flare(&["verify"]).fails(2, "can be read by others");
        assert!(answer.err.contains("chmod 600"), "{answer:?}");
    }
    assert!(desk.stub.account().writes.is_empty());
    for mode in [0o600, 0o400] {
        desk.mode(".env", mode);
        desk.flare(&["provision", "--dry-run"]).ok();
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let desk = Desk::new();
    desk.write(
        ".env",
        "CLOUDFLARE_ACCOUNT_ID=0123456789abcdef0123456789abcdef\nCLOUDFLARE_API_TOKEN=an-old-one\n",
    );
    desk.mode(".env", 0o600);
    desk.flare(&["provision", "--dry-run"]).fails(4, "9109");
    run(desk.command(&["provision", "--dry-run"]).env("CLOUDFLARE_API_TOKEN", TOKEN)).ok();
    std::fs::remove_file(desk.place.path("work/.env")).expect("removed");
    desk.flare(&["provision", "--dry-run"]).fails(2, "CLOUDFLARE_ACCOUNT_ID is not set");
}

#[test]
fn a_line_that_is_none_is_named_and_not_shown() {
    let desk = Desk::new();
    desk.write(".env", "CLOUDFLARE_ACCOUNT_ID=x\nhush-this-is-secret\n");
    desk.mode(".env", 0o600);
    let answer = desk.flare(&["verify"]).fails(2, "line 2");
    assert!(!answer.err.contains("hush"), "{answer:?}");
}

#[test]
fn the_token_goes_nowhere_else() {
    let desk = Desk::new();
    let mut command = desk.command(&["verify"]);
    run(command.env("FLARE_CLOUDFLARE_API", "https://api.example.com")).fails(2, "on this machine alone");
}

#[test]
fn no_secret_is_in_a_file_or_on_a_command_line() {
    let desk = Desk::ready();
    let said = desk.flare(&["deploy"]).ok();
    let secrets = desk.stub.secrets();
    assert_eq!(secrets.len(), 2, "master key and Turnstile's");
    let all: Vec<String> = secrets.into_iter().chain([TOKEN.to_owned(), TURNSTILE.to_owned()]).collect();
    // The folder as it was is all that holds any: the keys of its user, and the test's own wrangler.
    let mut found = files_with(desk.place.root.path(), &all);
    found.sort();
    assert_eq!(found, [".env", "wrangler"]);
    assert!(!all.iter().any(|secret| said.out.contains(secret) || said.err.contains(secret)));
    assert_eq!(desk.read("argv").lines().next(), Some("deploy"));
    assert!(desk.place.path("token-was-right").is_file(), "by its environment");
    let names = desk.read("names");
    assert!(names.contains("CLOUDFLARE_ACCOUNT_ID") && !names.contains("TURNSTILE"), "{names}");
}
