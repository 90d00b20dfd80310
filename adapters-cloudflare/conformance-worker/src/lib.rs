//! Runs the cases of the ports on Cloudflare's own services: `GET /cases` lists them as `SUITE/CASE`,
//! `POST /cases/SUITE/CASE` runs one, with 204 where the promise is kept and 422 with the finding where it is not.
//! 202 is a case that goes on: it is asked for again with the answer's text as `?run=`.
#![expect(clippy::future_not_send, reason = "waiting for JavaScript; what the host polls goes through `js`")]

mod cache;
mod feed;
mod limit;
mod machine;
mod notes;
mod queue;
mod r2;
mod workflow;

use std::sync::Arc;

use burstflare_adapters_cloudflare::queue::{Batch, consume};
use burstflare_adapters_cloudflare::{CloudQueue, D1, D1Store, R2Blobs, js};
use burstflare_ports::conformance::{
    BLOB_CASES, CACHE_CASES, FEED_CASES, Finding, LIMIT_CASES, QUEUE_CASES, STORE_CASES, Verdict, case,
    fresh_seed,
};
use burstflare_ports::id::Id;
use burstflare_ports::queue::{Job, Queue as _};
use burstflare_ports::time::Timestamp;
use wasm_bindgen::prelude::*;
use worker::{Context, Env, Error, Method, Request, Response, Result};

/// It ends the isolate's memory, and the case with it: a note tells what came.
const PANIC: &str = "deliveries::a_panic_is_a_failure";

/// Every request.
#[worker::event(fetch)]
async fn fetch(request: worker::HttpRequest, env: Env, context: Context) -> Result<worker::HttpResponse> {
    let context: &JsValue = context.as_ref().as_ref();
    let context = worker::send::SendWrapper::new(context.clone());
    js(async move { answer(&Request::try_from(request)?, &env, context.0).await?.try_into() }).await
}

/// Every batch of messages.
#[wasm_bindgen]
pub async fn queue(batch: Batch, env: Env, _context: JsValue) {
    consume(batch, &queue::Dispatch { env }).await;
}

async fn answer(request: &Request, env: &Env, context: JsValue) -> Result<Response> {
    let path = request.path();
    if let Some(id) = path.strip_prefix("/feed/") {
        return feed::answer(request, id, env, context).await;
    }
    match (request.method(), path.strip_prefix("/cases/").and_then(|rest| rest.split_once('/'))) {
        (Method::Get, None) if path == "/cases" => Response::from_json(&names()),
        (Method::Post, Some(("queue", PANIC))) => panics(request, env).await,
        (Method::Post, Some(("crash", "before"))) => match workflow::before_crash(env, seed()?).await {
            Ok(build) => Response::ok(build),
            Err(finding) => Response::error(finding.0, 422),
        },
        (Method::Post, Some(("crash", build))) => verdict(Some(workflow::after_crash(env, build).await)),
        (Method::Post, Some((suite, name))) => verdict(run(suite, name, env, context).await?),
        _ => Response::error("no such route", 404),
    }
}

fn verdict(verdict: Option<Verdict>) -> Result<Response> {
    match verdict {
        Some(Ok(())) => Response::empty().map(|response| response.with_status(204)),
        Some(Err(finding)) => Response::error(finding.0, 422),
        None => Response::error("no such case", 404),
    }
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = STORE_CASES.iter().map(|case| format!("store/{}", case.name)).collect();
    names.extend(BLOB_CASES.iter().map(|case| format!("blobs/{}", case.name)));
    names.extend(r2::CASES.iter().map(|name| format!("r2/{name}")));
    names.extend(QUEUE_CASES.iter().map(|case| format!("queue/{}", case.name)));
    names.extend(workflow::CASES.iter().map(|name| format!("workflow/{name}")));
    names.extend(FEED_CASES.iter().map(|case| format!("feed/{}", case.name)));
    names.extend(CACHE_CASES.iter().map(|case| format!("cache/{}", case.name)));
    names.extend(LIMIT_CASES.iter().map(|case| format!("limit/{}", case.name)));
    names.extend(machine::CASES.iter().map(|name| format!("machine/{name}")));
    names
}

/// The isolate of the next run counts from the start again.
fn seed() -> Result<u64> {
    let mut start = [0; 8];
    getrandom::fill(&mut start).map_err(|error| Error::RustError(error.to_string()))?;
    Ok(fresh_seed(u64::from_le_bytes(start)))
}

/// Runs a case; none where there is none.
async fn run(suite: &str, name: &str, env: &Env, context: JsValue) -> Result<Option<Verdict>> {
    let seed = seed()?;
    Ok(match suite {
        "store" => match case(STORE_CASES, name) {
            Some(case) => Some((case.run)(Arc::new(D1Store::new(D1::new(env.d1("DB")?))), seed).await),
            None => None,
        },
        "blobs" => match case(BLOB_CASES, name) {
            Some(case) => Some((case.run)(Arc::new(R2Blobs::new(env.bucket("BLOBS")?)), seed).await),
            None => None,
        },
        "r2" => r2::run(name, env, seed).await?,
        "queue" => queue::run(name, env, seed).await?,
        "workflow" => workflow::run(name, env, seed).await?,
        "feed" => feed::run(name, env, context, seed).await?,
        "cache" => cache::run(name, env, seed).await?,
        "limit" => limit::run(name, env, seed).await,
        "machine" => machine::run(name, env, seed).await?,
        _ => None,
    })
}

/// Sends a job whose first delivery panics; later calls look for the second one.
async fn panics(request: &Request, env: &Env) -> Result<Response> {
    let run = request.url()?.query_pairs().find(|(name, _)| name == "run").map(|(_, run)| run.into_owned());
    if let Some(run) = run {
        let notes = notes::read(env, &run).await;
        return match notes.iter().skip(1).map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] | ["came 1"] => Ok(Response::ok(run)?.with_status(202)),
            ["came 1", "came 2"] => verdict(Some(Ok(()))),
            other => verdict(Some(Err(Finding(format!("{other:?}"))))),
        };
    }
    let mut chance = [0; 10];
    chance[..8].copy_from_slice(&seed()?.to_be_bytes());
    let at = Timestamp::from_millis(1);
    let job = Job::RunBuild { workspace: Id::new(at, chance), build: Id::new(at, chance) };
    let Job::RunBuild { build, .. } = &job;
    notes::write(env, &build.to_string(), "panic").await;
    match CloudQueue::new(env, "JOBS")?.enqueue(&job, std::time::Duration::ZERO).await {
        Ok(()) => Ok(Response::ok(build.to_string())?.with_status(202)),
        Err(error) => verdict(Some(Err(error.into()))),
    }
}
