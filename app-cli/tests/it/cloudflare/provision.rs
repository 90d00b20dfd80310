//! `flare cloudflare provision` and `generate`.

use std::process::Stdio;

use super::stub::Fault;
use super::{Desk, run};
use crate::flare::EXE;

const CALLS: [&str; 8] = [
    "POST /d1/database",
    "POST /storage/kv/namespaces",
    "POST /r2/buckets",
    "POST /queues",
    "PUT /workers/scripts/burstflare-staging",
    "PUT /workers/scripts/burstflare-staging/secrets",
    "POST /zones/z-example.net/dns_records",
    "POST /queues#2",
];

/// Everything once and nothing twice, and a key that is one.
#[track_caller]
fn whole(desk: &Desk) {
    let account = desk.stub.account();
    assert_eq!(account.databases, ["burstflare-staging"]);
    assert_eq!(account.namespaces, ["burstflare-staging"]);
    assert_eq!(account.buckets, ["burstflare-staging"]);
    let mut queues = account.queues.clone();
    queues.sort();
    assert_eq!(queues, ["burstflare-staging-jobs", "burstflare-staging-jobs-dead"]);
    assert_eq!(account.records, ["*.example.net"]);
    let secrets = &account.workers["burstflare-staging"];
    assert_eq!(secrets.keys().collect::<Vec<_>>(), ["FLARE_MASTER_KEY", "FLARE_TURNSTILE_SECRET"]);
    assert_eq!(secrets["FLARE_MASTER_KEY"].len(), 44, "32 bytes in base64");
}

#[test]
fn what_is_missing_is_made_once() {
    let desk = Desk::new();
    let plan = desk.flare(&["provision", "--dry-run"]).ok();
    assert!(plan.out.contains("9 to make."), "{plan:?}");
    assert!(desk.stub.account().writes.is_empty());
    desk.flare(&["provision"]).fails(2, "nobody can be asked");
    let answer = desk.flare(&["provision", "--yes", "--json"]).ok();
    assert!(answer.err.contains("the only copy of the master key"), "{answer:?}");
    let items = answer.json()["items"].as_array().expect("items").clone();
    assert!(items.iter().all(|item| item["state"] == "made"), "{items:?}");
    whole(&desk);
    let key = desk.stub.secrets();
    desk.stub.account().writes.clear();
    let again = desk.flare(&["provision", "--json"]).ok().json();
    assert!(again["items"].as_array().expect("items").iter().all(|item| item["state"] == "there"), "{again}");
    assert!(desk.stub.account().writes.is_empty(), "a second run changes nothing");
    assert_eq!(desk.stub.secrets(), key, "the key stays");
}

#[test]
fn later_pages_are_read() {
    let desk = Desk::new();
    desk.flare(&["provision", "--yes"]).ok();
    {
        let mut account = desk.stub.account();
        for number in 0..5 {
            account.databases.insert(0, format!("other-{number}"));
            account.namespaces.insert(0, format!("other-{number}"));
            account.buckets.insert(0, format!("other-{number}"));
            account.queues.insert(0, format!("other-{number}"));
        }
        account.writes.clear();
    }
    desk.flare(&["provision"]).ok();
    assert!(desk.stub.account().writes.is_empty());
    let file = desk.flare(&["generate", "--json"]).ok();
    assert!(file.json()["file"].as_str().is_some_and(|path| path.ends_with("wrangler.staging.jsonc")));
    assert!(desk.read("work/wrangler.staging.jsonc").contains("uuid-of-burstflare-staging"));
    assert!(desk.read("work/wrangler.staging.jsonc").contains("kv-of-burstflare-staging"));
}

#[test]
fn lost_answers_and_bad_moments_make_no_doubles() {
    for fault in [Fault::CutBefore, Fault::CutAfter, Fault::Status(500, None), Fault::Status(429, Some(0))] {
        let desk = Desk::new();
        for call in &CALLS[..7] {
            desk.stub.fault(call, 1, fault);
        }
        desk.flare(&["provision", "--yes"]).ok();
        whole(&desk);
        // It looked before it tried again: each was done once, also where the answer was lost.
        let writes = desk.stub.account().writes.clone();
        assert_eq!(writes.len(), 9, "{fault:?}: {writes:?}");
    }
}

#[test]
fn a_run_that_is_killed_is_run_again() {
    for hang in [Fault::HangBefore, Fault::HangAfter] {
        for call in CALLS {
            let desk = Desk::new();
            // The second queue's call looks as the first one's.
            match call.strip_suffix("#2") {
                Some(call) => {
                    desk.stub.fault(call, 1, Fault::Status(429, Some(0)));
                    desk.stub.account().queues.push("burstflare-staging-jobs-dead".to_owned());
                    desk.stub.fault(call, 1, hang);
                }
                None => desk.stub.fault(call, 1, hang),
            }
            let mut command = desk.command(&["provision", "--yes"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs");
            desk.stub.hangs();
            child.kill().expect("killed");
            child.wait().expect("ended");
            let key = desk.stub.secrets();
            desk.flare(&["provision", "--yes"]).ok();
            whole(&desk);
            assert!(
                key.iter().all(|key| desk.stub.secrets().contains(key)),
                "{call}: a key that is set stays"
            );
        }
    }
}

#[test]
fn names_in_other_capitals_are_not_taken_for_ours() {
    let desk = Desk::new();
    desk.stub.account().databases.push("BurstFlare-Staging".to_owned());
    desk.flare(&["provision", "--yes"]).fails(5, "by capitals alone");
    assert!(desk.stub.account().writes.is_empty());
}

#[test]
fn records_that_are_in_use_get_no_new_key() {
    let desk = Desk::ready();
    desk.stub.account().workers.clear();
    // Nobody has an account yet: nothing is sealed.
    desk.flare(&["provision", "--yes"]).ok();
    desk.stub.account().workers.clear();
    desk.stub
        .sql("INSERT INTO users (id, email, revision, created_at) VALUES ('usr_1', 'a@example.com', 1, 1)");
    desk.flare(&["provision", "--yes"]).fails(5, "--master-key-file");
    assert!(desk.stub.account().workers.is_empty(), "nothing was made before the key was known");
    desk.write("key", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n");
    desk.mode("key", 0o644);
    desk.flare(&["provision", "--yes", "--master-key-file", "key"]).fails(2, "chmod 600");
    desk.mode("key", 0o600);
    desk.flare(&["provision", "--yes", "--master-key-file", "key"]).ok();
    let account = desk.stub.account();
    let key = &account.workers["burstflare-staging"]["FLARE_MASTER_KEY"];
    assert_eq!(key, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
}

#[test]
fn the_file_is_made_of_what_is_there() {
    let desk = Desk::new();
    desk.flare(&["generate"]).fails(3, "flare cloudflare provision");
    desk.flare(&["provision", "--yes"]).ok();
    desk.flare(&["generate", "--check"]).fails(5, "not up to date");
    desk.flare(&["generate"]).ok();
    let first = desk.read("work/wrangler.staging.jsonc");
    for text in [
        "\"FLARE_ORIGIN\": \"https://flare.example.com\"",
        "*.example.net/*",
        "\"custom_domain\": true",
        "uuid-of-",
    ] {
        assert!(first.contains(text), "{text} in {first}");
    }
    desk.flare(&["generate", "--check"]).ok();
    desk.flare(&["generate"]).ok();
    assert_eq!(desk.read("work/wrangler.staging.jsonc"), first, "the same again");
    desk.write("wrangler.staging.jsonc", &first.replace("\"invite\"", "\"open\""));
    desk.flare(&["generate", "--check"]).fails(5, "vars");
    desk.flare(&["deploy"]).fails(5, "not up to date");
    run(&mut desk.command(&["generate"])).ok();
    assert_eq!(desk.read("work/wrangler.staging.jsonc"), first);
}

#[test]
fn a_question_can_be_answered_and_left() {
    let desk = Desk::new();
    let ask = |typed: &str| {
        let script = format!(
            "import os, pty, sys\nsent = False\ndef read(fd):\n    global sent\n    data = os.read(fd, 4096)\n    if b'[y/N]' in data and not sent:\n        sent = True\n        os.write(fd, {typed})\n    return data\nsys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], read)))"
        );
        let mut command = desk.command(&[]);
        let mut python = desk.place.command("python3");
        python.args(["-c", &script, EXE, "cloudflare", "provision"]);
        python.envs(command.arg("x").get_envs().filter_map(|(name, value)| Some((name, value?))));
        run(&mut python)
    };
    assert_eq!(ask("b'\\x03'").code, 130, "Ctrl-C");
    assert_eq!(ask("b'n\\n'").code, 130);
    assert!(desk.stub.account().writes.is_empty());
    let answer = ask("b'y\\n'");
    assert_eq!(answer.code, 0, "{answer:?}");
    whole(&desk);
}
