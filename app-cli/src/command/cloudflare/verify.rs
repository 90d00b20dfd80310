//! `flare cloudflare verify`: a line for everything that has to be in order.

use burstflare_adapters_cloudflare::deployment::{Call, Refusal};
use serde::Serialize;
use serde_json::json;

use super::{Common, Desk, no_zone};
use crate::cloudflare::{Tool, Wrangler, Zone, zone_of};
use crate::command::ssh::find_program;
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::output::{Paint, clean};

/// The oldest wrangler that knows everything in the file.
const WRANGLER: (u32, u32) = (4, 164);
/// The oldest Node.js that runs it.
const NODE: (u32, u32) = (22, 0);

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Note,
    Problem,
}

/// One line.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    detail: String,
    hint: Option<String>,
}

fn ok(name: &'static str, detail: impl Into<String>) -> Check {
    Check { name, state: State::Ok, detail: detail.into(), hint: None }
}

fn wrong(name: &'static str, state: State, detail: impl Into<String>, hint: impl Into<String>) -> Check {
    Check { name, state, detail: detail.into(), hint: Some(hint.into()) }
}

fn failed(name: &'static str, failure: Failure) -> Check {
    Check { name, state: State::Problem, detail: failure.message, hint: failure.hint }
}

/// Answers 0 when nothing is wrong, 1 otherwise.
pub(super) async fn run(context: &Context, args: &Common) -> Outcome {
    let desk = args.desk()?;
    let mut checks = tools(args).await?;
    context.output.progress("verify: token and account");
    let (token, valid) = token(&desk).await?;
    checks.push(token);
    if valid {
        checks.extend(account(&desk).await?);
        context.output.progress("verify: domains");
        checks.extend(domains(&desk).await?);
    }
    let problems = checks.iter().filter(|check| check.state == State::Problem).count();
    let document = json!({
        "ok": problems == 0, "environment": desk.target.environment.name(), "name": desk.target.name, "checks": checks,
    });
    context.output.result(&document, || {
        let mut text = String::new();
        for check in &checks {
            let mark = match check.state {
                State::Ok => context.output.paint(Paint::Good, "ok     "),
                State::Note => context.output.paint(Paint::Warn, "note   "),
                State::Problem => context.output.paint(Paint::Bad, "problem"),
            };
            text.push_str(&format!("{mark}  {}: {}\n", check.name, clean(&check.detail)));
            if let Some(hint) = &check.hint {
                text.push_str(&format!("         hint: {}\n", clean(hint)));
            }
        }
        match problems {
            0 => text + "\nReady. Next: `flare cloudflare provision`.\n",
            1 => text + "\n1 problem.\n",
            many => format!("{text}\n{many} problems.\n"),
        }
    });
    Ok(u8::from(problems > 0))
}

async fn tools(args: &Common) -> Result<Vec<Check>, Failure> {
    let wrangler = Wrangler::locate(&args.folder()?);
    let install = "Install Node.js 22 or newer, then `npm install wrangler@4` beside cloudflare.toml.";
    let mut checks = Vec::new();
    for (name, path, (major, minor)) in
        [("node", find_program("node"), NODE), ("wrangler", wrangler, WRANGLER)]
    {
        checks.push(match Tool::find(path).await {
            Ok(Some(tool)) if tool.at_least(major, minor) => {
                ok(name, format!("{} at {}", tool.version, tool.path.display()))
            }
            Ok(Some(tool)) => {
                let detail =
                    format!("{} at {}, older than {major}.{minor}", tool.version, tool.path.display());
                wrong(name, State::Problem, detail, install)
            }
            Ok(None) => wrong(name, State::Problem, "not found", install),
            Err(failure) => wrong(name, State::Problem, failure.message, install),
        });
    }
    Ok(checks)
}

/// Tokens of users and tokens of accounts are verified in different places.
async fn token(desk: &Desk) -> Result<(Check, bool), Failure> {
    let name = "token";
    let mut outcome = desk.api.ask(&Call::get(&["user", "tokens", "verify"])).await?;
    if outcome.is_err() {
        let own = Call::get(&["accounts", &desk.keys.account, "tokens", "verify"]);
        outcome = desk.api.ask(&own).await?.or(outcome);
    }
    let hint = "Make a new token in the dashboard, under API tokens, and put it into .env.";
    Ok(match outcome {
        Ok(answer) if answer.result["status"] == "active" => {
            let until = answer.result["expires_on"].as_str();
            let detail = until.map_or_else(|| "active".to_owned(), |until| format!("active until {until}"));
            (ok(name, detail), true)
        }
        Ok(answer) => {
            let status = answer.result["status"].as_str().unwrap_or("not active").to_owned();
            (wrong(name, State::Problem, status, hint), false)
        }
        Err(refusal) => (wrong(name, State::Problem, refusal.to_string(), hint), false),
    })
}

/// Reading calls of everything that is going to be written. Whether the token may write shows when it does: the API
/// tells nobody's permissions.
async fn account(desk: &Desk) -> Result<Vec<Check>, Failure> {
    let id = desk.keys.account.as_str();
    let mut checks = Vec::new();
    let account = desk.api.ask(&Call::get(&["accounts", id])).await?;
    let missing = |refusal: &Refusal, right: &str| match refusal.is_forbidden() || refusal.is_token() {
        true => format!("Add the permission {right} to the token, for this account."),
        false => format!("Check CLOUDFLARE_ACCOUNT_ID, and the permission {right}."),
    };
    checks.push(match account {
        Ok(answer) => ok("account", answer.result["name"].as_str().unwrap_or(id).to_owned()),
        Err(refusal) => {
            let hint = missing(&refusal, "Account Settings: Read");
            wrong("account", State::Problem, refusal.to_string(), hint)
        }
    });
    let one = |call: Call| call.query("per_page", "10");
    for (name, right, call) in [
        ("Workers", "Workers Scripts: Edit", Call::get(&["accounts", id, "workers", "scripts"])),
        ("D1", "D1: Edit", one(Call::get(&["accounts", id, "d1", "database"]))),
        ("KV", "Workers KV Storage: Edit", one(Call::get(&["accounts", id, "storage", "kv", "namespaces"]))),
        ("R2", "Workers R2 Storage: Edit", one(Call::get(&["accounts", id, "r2", "buckets"]))),
        ("Queues", "Queues: Edit", one(Call::get(&["accounts", id, "queues"]))),
        ("Workflows", "Workers Scripts: Edit", one(Call::get(&["accounts", id, "workflows"]))),
        ("Containers", "Containers: Edit", Call::get(&["accounts", id, "containers", "applications"])),
    ] {
        readable(&mut checks, name, desk.api.ask(&call).await?.map(drop), |refusal| missing(refusal, right));
    }
    Ok(checks)
}

fn readable(
    checks: &mut Vec<Check>,
    name: &'static str,
    outcome: Result<(), Refusal>,
    hint: impl Fn(&Refusal) -> String,
) {
    checks.push(match outcome {
        Ok(()) => ok(name, "can be read"),
        Err(refusal) => wrong(name, State::Problem, refusal.to_string(), hint(&refusal)),
    });
}

async fn domains(desk: &Desk) -> Result<Vec<Check>, Failure> {
    let target = &desk.target;
    let mut checks = Vec::new();
    let found = zone_of(&desk.api, &desk.keys.account, &target.domain).await;
    let mut zones: Vec<Zone> = found.iter().flatten().cloned().collect();
    checks.push(zone("domain", &target.domain, found));
    match &target.preview_domain {
        None => checks.push(wrong(
            "previews",
            State::Note,
            "no preview_domain: ports of sessions have no address",
            "Set preview_domain in cloudflare.toml to a domain apart from the first one.",
        )),
        Some(domain) => {
            let found = zone_of(&desk.api, &desk.keys.account, domain).await;
            // Universal certificates cover names one label below the zone, and previews stand one below their domain.
            let deeper = matches!(&found, Ok(Some(zone)) if zone.name != *domain);
            zones.extend(found.iter().flatten().cloned());
            checks.push(zone("previews", domain, found));
            if deeper {
                checks.push(wrong(
                    "certificate",
                    State::Note,
                    format!("Cloudflare's universal certificate does not cover *.{domain}"),
                    "Take a domain that is a zone itself, or order an advanced certificate for these names.",
                ));
            }
        }
    }
    for zone in zones {
        for (name, right, part) in [
            ("DNS", "DNS: Edit", &["dns_records"][..]),
            ("routes", "Workers Routes: Edit", &["workers", "routes"]),
        ] {
            let path: Vec<&str> =
                ["zones", zone.id.as_str()].into_iter().chain(part.iter().copied()).collect();
            let outcome = desk.api.ask(&Call::get(&path)).await?.map(drop);
            readable(&mut checks, name, outcome, |_| {
                format!("Add the permission {right} to the token, for the zone {}.", zone.name)
            });
            if let Some(check) = checks.last_mut().filter(|check| check.state == State::Ok) {
                check.detail = format!("can be read for {}", zone.name);
            }
        }
    }
    Ok(checks)
}

fn zone(name: &'static str, domain: &str, found: Result<Option<Zone>, Failure>) -> Check {
    match found {
        Ok(Some(zone)) if zone.active => ok(name, format!("{domain}, in the zone {}", zone.name)),
        Ok(Some(zone)) => wrong(
            name,
            State::Problem,
            format!("the zone {} is not active yet", zone.name),
            "Point the domain's name servers at Cloudflare, as the dashboard says.",
        ),
        Ok(None) => failed(name, no_zone(domain)),
        Err(failure) => failed(name, failure),
    }
}
