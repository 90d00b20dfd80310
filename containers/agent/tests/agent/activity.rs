//! `GET /v1/activity`, and the end that only an idle machine meets.

use burstflare_ports::wire::{Activity, ExecRequest, Reason};
use http::{Method, StatusCode};

use crate::machine::{Machine, eventually};

async fn ask(machine: &Machine) -> Activity {
    let (status, body) = machine.get("/v1/activity").await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    serde_json::from_slice(&body).unwrap()
}

/// Asks until the answer is as wanted, with a deadline.
async fn until(machine: &Machine, what: &str, wanted: impl Fn(&Activity) -> bool) -> Activity {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let answer = ask(machine).await;
        if wanted(&answer) {
            return answer;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: {answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn sh(script: &str) -> Vec<u8> {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    serde_json::to_vec(&ExecRequest { argv, ..ExecRequest::default() }).unwrap()
}

async fn quiesce(machine: &Machine, mark: u64) -> StatusCode {
    let body = format!(r#"{{"grace_ms":1000,"if_idle_since":{mark}}}"#);
    machine.call(Method::POST, "/v1/quiesce", body).await.0
}

#[tokio::test]
async fn a_machine_that_is_left_alone_ages() {
    let machine = Machine::start();
    let first = ask(&machine).await;
    assert_eq!(first.reason, Reason::Start);
    let later =
        until(&machine, "age", |answer| answer.last_active_ms_ago > first.last_active_ms_ago + 50).await;
    assert_eq!(later.mark, first.mark, "asking is no activity");
    assert_eq!(machine.get("/ready").await.0, StatusCode::OK);
    assert_eq!(ask(&machine).await.mark, first.mark, "nor is a probe");
}

#[tokio::test]
async fn a_command_holds_the_machine_awake_until_it_ends() {
    let machine = Machine::start();
    let running = machine.open(Method::POST, "/v1/exec", sh("exec sleep 600")).await;
    let answer = until(&machine, "exec", |answer| !answer.busy.is_empty()).await;
    assert_eq!((answer.busy[0].reason, answer.busy[0].count), (Reason::Exec, 1));
    assert_eq!(quiesce(&machine, answer.mark).await, StatusCode::CONFLICT, "it goes on");
    // Whoever waited for it is gone, and so is the command.
    drop(running);
    let answer = until(&machine, "end", |answer| answer.busy.is_empty()).await;
    assert_eq!(answer.reason, Reason::Exec);
}

#[tokio::test]
async fn processes_that_work_are_activity_and_those_that_wait_are_not() {
    let machine = Machine::start();
    machine.sh("(sleep 600 </dev/null >/dev/null 2>&1 &)").await;
    let quiet = ask(&machine).await;
    let again = until(&machine, "age", |answer| answer.last_active_ms_ago > 300).await;
    assert_eq!((again.mark, again.reason), (quiet.mark, Reason::Exec), "somebody who sleeps is not active");
    machine.sh("(while :; do :; done </dev/null >/dev/null 2>&1 &)").await;
    let busy = until(&machine, "work", |answer| answer.reason == Reason::Cpu).await;
    assert!(busy.cpu_ms >= 300, "{busy:?}");
    until(&machine, "more work", |answer| answer.mark > busy.mark).await;
}

#[tokio::test]
async fn a_locked_file_marks_a_job() {
    let machine = Machine::start();
    let awake = machine.socket().with_file_name("run/flare/awake");
    eventually("the folder", || awake.is_dir()).await;
    let marked = format!(
        "cd '{}'; (flock job sh -c 'echo $$ >pid; exec sleep 600' </dev/null >/dev/null 2>&1 &)",
        awake.display()
    );
    machine.sh(&marked).await;
    let answer = until(&machine, "job", |answer| !answer.busy.is_empty()).await;
    assert_eq!((answer.busy[0].reason, answer.last_active_ms_ago), (Reason::Job, 0));
    assert_eq!(quiesce(&machine, answer.mark).await, StatusCode::CONFLICT);
    // Its lock ends with it, however it ends.
    machine.sh(&format!("kill -9 $(cat '{}/pid')", awake.display())).await;
    until(&machine, "its end", |answer| answer.busy.is_empty()).await;
}

#[tokio::test]
async fn only_who_is_idle_is_put_to_rest() {
    let machine = Machine::start();
    let seen = ask(&machine).await;
    // A person comes between the decision and the deed.
    machine.sh("echo work >file").await;
    let (status, refusal) = machine
        .refusal(Method::POST, "/v1/quiesce", format!(r#"{{"grace_ms":0,"if_idle_since":{}}}"#, seen.mark))
        .await;
    assert_eq!((status, refusal.code.as_str()), (409, "busy"));
    assert_eq!(machine.sh("cat file").await, "work\n", "and goes on working");
    let seen = until(&machine, "rest", |answer| answer.busy.is_empty()).await;
    assert_eq!(quiesce(&machine, seen.mark).await, StatusCode::NO_CONTENT);
    let refused = machine.call(Method::POST, "/v1/exec", sh("echo late")).await;
    assert!(!String::from_utf8_lossy(&refused.1).contains("late"), "nothing starts any more: {refused:?}");
}
