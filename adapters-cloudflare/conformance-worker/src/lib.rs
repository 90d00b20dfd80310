//! Runs the cases of records on D1: `GET /cases` lists their names, `POST /cases/{name}` runs one, with 204 where the
//! database keeps the promise and 422 with the finding where it does not.

use std::sync::Arc;

use burstflare_adapters_cloudflare::{D1, D1Store, js};
use burstflare_ports::conformance::{STORE_CASES, case, fresh_seed};
use worker::{Context, Env, Method, Request, Response, Result};

/// Every request.
#[worker::event(fetch)]
async fn fetch(request: worker::HttpRequest, env: Env, _: Context) -> Result<worker::HttpResponse> {
    js(async move { answer(&Request::try_from(request)?, &env).await?.try_into() }).await
}

async fn answer(request: &Request, env: &Env) -> Result<Response> {
    let path = request.path();
    match (request.method(), path.strip_prefix("/cases/")) {
        (Method::Get, None) if path == "/cases" => {
            Response::from_json(&STORE_CASES.iter().map(|case| case.name).collect::<Vec<_>>())
        }
        (Method::Post, Some(name)) => match case(STORE_CASES, name) {
            Some(case) => {
                // The isolate of the next run counts from the start again.
                let mut start = [0; 8];
                getrandom::fill(&mut start).map_err(|error| worker::Error::RustError(error.to_string()))?;
                let store = Arc::new(D1Store::new(D1::new(env.d1("DB")?)));
                match (case.run)(store, fresh_seed(u64::from_le_bytes(start))).await {
                    Ok(()) => Response::empty().map(|response| response.with_status(204)),
                    Err(finding) => Response::error(finding.0, 422),
                }
            }
            None => Response::error("no such case", 404),
        },
        _ => Response::error("no such route", 404),
    }
}
