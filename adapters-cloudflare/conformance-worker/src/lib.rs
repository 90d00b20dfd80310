//! Runs the cases of the ports on Cloudflare's own services: `GET /cases` lists them as `SUITE/CASE`,
//! `POST /cases/SUITE/CASE` runs one, with 204 where the promise is kept and 422 with the finding where it is not.
#![expect(clippy::future_not_send, reason = "waiting for JavaScript; what the host polls goes through `js`")]

mod r2;

use std::sync::Arc;

use burstflare_adapters_cloudflare::{D1, D1Store, R2Blobs, js};
use burstflare_ports::conformance::{BLOB_CASES, STORE_CASES, Verdict, case, fresh_seed};
use worker::{Context, Env, Error, Method, Request, Response, Result};

/// Every request.
#[worker::event(fetch)]
async fn fetch(request: worker::HttpRequest, env: Env, _: Context) -> Result<worker::HttpResponse> {
    js(async move { answer(&Request::try_from(request)?, &env).await?.try_into() }).await
}

async fn answer(request: &Request, env: &Env) -> Result<Response> {
    let path = request.path();
    match (request.method(), path.strip_prefix("/cases/").and_then(|rest| rest.split_once('/'))) {
        (Method::Get, None) if path == "/cases" => Response::from_json(&names()),
        (Method::Post, Some((suite, name))) => match run(suite, name, env).await? {
            Some(Ok(())) => Response::empty().map(|response| response.with_status(204)),
            Some(Err(finding)) => Response::error(finding.0, 422),
            None => Response::error("no such case", 404),
        },
        _ => Response::error("no such route", 404),
    }
}

fn names() -> Vec<String> {
    let store = STORE_CASES.iter().map(|case| format!("store/{}", case.name));
    let blobs = BLOB_CASES.iter().map(|case| format!("blobs/{}", case.name));
    let r2 = r2::CASES.iter().map(|name| format!("r2/{name}"));
    store.chain(blobs).chain(r2).collect()
}

/// Runs a case; none where there is none.
async fn run(suite: &str, name: &str, env: &Env) -> Result<Option<Verdict>> {
    // The isolate of the next run counts from the start again.
    let mut start = [0; 8];
    getrandom::fill(&mut start).map_err(|error| Error::RustError(error.to_string()))?;
    let seed = fresh_seed(u64::from_le_bytes(start));
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
        _ => None,
    })
}
