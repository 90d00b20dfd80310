//! `flare cloudflare deploy`.

use std::process::Stdio;

use super::{Desk, run};

#[test]
fn everything_has_to_be_ready_first() {
    let desk = Desk::new();
    desk.flare(&["deploy"]).fails(3, "flare cloudflare generate");
    desk.flare(&["provision", "--yes"]).ok();
    desk.flare(&["generate"]).ok();
    desk.flare(&["deploy"]).fails(5, "flare cloudflare migrate");
    desk.flare(&["migrate", "--yes"]).ok();
    let secrets = desk.stub.account().workers.insert("burstflare-staging".to_owned(), Default::default());
    desk.flare(&["deploy"]).fails(3, "FLARE_MASTER_KEY");
    desk.stub.account().workers.insert("burstflare-staging".to_owned(), secrets.expect("secrets"));
    desk.stub.account().queues.clear();
    desk.flare(&["deploy"]).fails(3, "flare cloudflare provision");
    desk.flare(&["provision", "--yes"]).ok();
    std::fs::remove_file(desk.place.path("work/worker/build/index_bg.wasm")).expect("removed");
    desk.flare(&["deploy"]).fails(3, "worker-build");
    assert_eq!(desk.read("argv"), "", "wrangler was never called");
    desk.write("worker/build/index_bg.wasm", "");
    let answer = desk.flare(&["deploy", "--json"]).ok();
    assert_eq!(answer.json()["origin"], "https://flare.example.com");
    assert!(answer.json()["bootstrap_code"].is_string(), "for the first operator");
    assert!(answer.err.contains("wrangler says hello"), "{answer:?}");
    let argv = desk.read("argv");
    let words: Vec<&str> = argv.lines().collect();
    assert_eq!(words[..2], ["deploy", "-c"]);
    assert!(words[2].ends_with("/wrangler.staging.jsonc"), "{words:?}");
}

#[test]
fn what_is_for_this_machine_is_not_deployed() {
    let desk = Desk::ready();
    run(desk.command(&["deploy"]).env("FLARE_ENVIRONMENT", "local")).fails(2, "cannot be deployed");
    desk.flare(&["deploy", "--env", "local"]).fails(2, "cannot be deployed");
    let file = desk.read("work/wrangler.staging.jsonc");
    desk.write(
        "wrangler.staging.jsonc",
        &file.replace("\"FLARE_ENVIRONMENT\": \"staging\"", "\"FLARE_ENVIRONMENT\": \"local\""),
    );
    for words in [&["deploy"][..], &["deploy", "--dry-run"]] {
        desk.flare(words).fails(2, "cannot be deployed");
    }
    assert_eq!(desk.read("argv"), "");
}

#[test]
fn a_dry_run_asks_nobody() {
    let desk = Desk::ready();
    std::fs::remove_file(desk.place.path("work/.env")).expect("removed");
    let before = desk.stub.account().writes.len();
    desk.flare(&["deploy", "--dry-run"]).ok();
    assert_eq!(desk.stub.account().writes.len(), before);
    assert!(desk.read("argv").starts_with("deploy\n--dry-run\n-c\n"));
    assert!(!desk.read("names").contains("CLOUDFLARE_API_TOKEN"));
    desk.write("../wrangler-exit", "3");
    desk.flare(&["deploy", "--dry-run"]).fails(10, "wrangler failed");
}

#[test]
fn an_interrupted_deploy_ends_wrangler() {
    let desk = Desk::ready();
    let root = desk.place.root.path().display().to_string();
    desk.write("../bin/wrangler", &format!("#!/bin/sh\ntrap 'touch {root}/ended; exit 1' TERM\necho started >{root}/started\nsleep 60 & wait\n"));
    let mut command = desk.command(&["deploy", "--dry-run"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs");
    let end = std::time::Instant::now() + crate::flare::PATIENCE;
    while !desk.place.path("started").is_file() {
        assert!(std::time::Instant::now() < end, "it does not start");
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("told");
    let status = crate::flare::wait(&mut child).expect("ended");
    assert_eq!(status.code(), Some(130));
    assert!(desk.place.path("ended").is_file());
}

#[test]
fn the_first_operator_gets_a_code_until_there_is_one() {
    let desk = Desk::ready();
    let code = desk.flare(&["deploy", "--json"]).ok().json()["bootstrap_code"].clone();
    let grants = desk.stub.sql("SELECT kind, user FROM grants");
    assert_eq!(grants.len(), 1, "{grants:?}");
    let kept = serde_json::to_string(&desk.stub.sql("SELECT * FROM grants")).expect("text");
    assert!(code.as_str().is_some_and(|code| !kept.contains(code)), "only its digest is kept");
    // It says so, and what was deployed stays deployed.
    desk.stub.fault("POST /d1/database/uuid-of-burstflare-staging/raw", 20, super::stub::Fault::CutBefore);
    let answer = desk.flare(&["deploy", "--json"]).ok();
    assert!(
        answer.json()["bootstrap_code"].is_null() && answer.err.contains("makes another one"),
        "{answer:?}"
    );
    desk.stub.account().calm();
    desk.stub
        .sql("INSERT INTO users (id, email, revision, created_at) VALUES ('usr_1', 'a@example.com', 1, 1)");
    let answer = desk.flare(&["deploy", "--json"]).ok();
    assert!(answer.json()["bootstrap_code"].is_null(), "{answer:?}");
    assert!(!answer.err.contains("makes another one"), "{answer:?}");
}
