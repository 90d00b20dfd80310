//! What it means that a session is on its way somewhere.

use std::time::Duration;

use serde_json::Value;

use crate::client::{Call, Client};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::table::field;
use crate::wait::{By, Look, Wait};

/// A little longer than the server's own deadline of a start, so that its reason is the one that is shown.
const START: Duration = Duration::from_secs(660);
/// The same for a stop, whose snapshot may take a while.
pub(super) const STOP: Duration = Duration::from_secs(960);

/// Waits until a session runs, in this life of its machine or a later one.
///
/// # Errors
/// `Failed` with the reason when it will not run.
pub async fn running(
    context: &Context,
    client: &Client,
    id: &str,
    least_epoch: u64,
) -> Result<Value, Failure> {
    let call = Call::get(&["sessions", id]);
    let wait = Wait {
        client,
        call,
        subject: id,
        until_gone: false,
        deadline: START,
        what: format!("starting {id}"),
    };
    wait.run(context, By(move |document: &Value| judge_start(document, least_epoch))).await
}

fn judge_start(document: &Value, least_epoch: u64) -> Look {
    let wanted = document["goal"] == "run" || document["goal"] == "restart";
    let state = document["state"].as_str().unwrap_or_default();
    match state {
        "running" if document["epoch"].as_u64().unwrap_or(u64::MAX) >= least_epoch => Look::Done,
        "failed" => Look::Never(failed(document, "the session could not be started")),
        "deleting" => Look::Never(Failure::new(Exit::Conflict, "the session is being deleted")),
        _ if !wanted => Look::Never(failed(
            document,
            &format!("the session is {state}: somebody else put it to sleep, or its machine ended"),
        )),
        "stopping" => Look::Pending("session: waiting for the stop to end".to_owned()),
        "running" => Look::Pending("session: about to restart".to_owned()),
        state => Look::Pending(format!("session: {state}")),
    }
}

fn failed(document: &Value, what: &str) -> Failure {
    let failure = &document["failure"];
    let text = |name: &str| failure[name].as_str().map(str::to_owned);
    let message = text("message").map_or_else(|| what.to_owned(), |why| format!("{what}: {why}"));
    let hint = text("hint")
        .unwrap_or_else(|| format!("Start it again: `flare session start {}`.", field(document, "name")));
    Failure { exit: Exit::Failed, code: text("code"), message, hint: Some(hint), request_id: None }
}

/// What a look says about a stop.
pub(super) fn judge_stop(document: &Value) -> Look {
    match document["state"].as_str().unwrap_or_default() {
        "sleeping" if document["goal"] != "run" => Look::Done,
        "created" | "failed" => Look::Done,
        _ if document["goal"] == "run" => {
            Look::Never(Failure::new(Exit::Conflict, "the session was started again meanwhile"))
        }
        "deleting" => Look::Never(Failure::new(Exit::Conflict, "the session is being deleted")),
        state => Look::Pending(format!("session: {state}")),
    }
}
