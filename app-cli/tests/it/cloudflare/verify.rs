//! `flare cloudflare verify`.

use super::{Desk, run};

fn check<'a>(document: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let checks = document["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name} in {document}"))
}

#[test]
fn what_is_in_order_is_said_so() {
    let desk = Desk::new();
    let answer = desk.flare(&["verify", "--json"]).ok().json();
    assert_eq!(answer["ok"], true, "{answer}");
    for name in
        ["node", "wrangler", "token", "account", "Workers", "D1", "R2", "Queues", "Containers", "domain"]
    {
        assert_eq!(check(&answer, name)["state"], "ok", "{name}");
    }
    assert!(check(&answer, "wrangler")["detail"].as_str().is_some_and(|text| text.starts_with("4.164.0")));
    assert!(desk.stub.account().writes.is_empty(), "it changes nothing");
}

#[test]
fn a_bad_token_ends_the_questions() {
    let desk = Desk::new();
    let answer = run(desk.command(&["verify", "--json"]).env("CLOUDFLARE_API_TOKEN", "wrong"));
    assert_eq!(answer.code, 1, "{answer:?}");
    let document = answer.json();
    let token = check(&document, "token");
    assert_eq!(token["state"], "problem");
    assert!(token["detail"].as_str().is_some_and(|text| text.contains("Invalid API Token")), "{token}");
    assert!(document["checks"].as_array().expect("checks").iter().all(|check| check["name"] != "D1"));
}

#[test]
fn a_permission_that_lacks_is_named() {
    let desk = Desk::new();
    desk.stub.account().denied.push("/queues");
    let answer = desk.flare(&["verify", "--json"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    let document = answer.json();
    assert!(check(&document, "Queues")["hint"].as_str().is_some_and(|hint| hint.contains("Queues: Edit")));
    assert_eq!(check(&document, "D1")["state"], "ok");
    desk.flare(&["provision", "--yes"]).fails(4, "Authentication error");
    desk.stub.account().denied = vec!["/workers/routes"];
    let document = desk.flare(&["verify", "--json"]).json();
    let hint = check(&document, "routes")["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("Workers Routes: Edit") && hint.contains("example.com"), "{hint}");
}

#[test]
fn domains_have_to_be_of_the_account() {
    let desk = Desk::new();
    desk.write(
        "cloudflare.toml",
        "image = \"i\"\n[staging]\ndomain = \"a.example.org\"\npreview_domain = \"p.example.net\"\n",
    );
    let answer = desk.flare(&["verify", "--json"]);
    assert_eq!(answer.code, 1, "{answer:?}");
    let document = answer.json();
    assert_eq!(check(&document, "domain")["state"], "problem");
    assert_eq!(check(&document, "previews")["state"], "ok");
    assert!(
        check(&document, "certificate")["hint"].as_str().is_some_and(|hint| hint.contains("certificate"))
    );
}

#[test]
fn cloudflare_is_given_time_to_recover() {
    use super::stub::Fault;
    let desk = Desk::new();
    desk.stub.fault("GET /user/tokens", 1, Fault::Status(429, Some(1)));
    desk.stub.fault("GET /r2", 2, Fault::Status(503, None));
    desk.stub.fault("GET /zones", 1, Fault::CutBefore);
    desk.stub.fault("GET /queues", 1, Fault::CutAfter);
    desk.flare(&["verify"]).ok();
    // Not forever.
    desk.stub.fault("GET /d1", 100, Fault::Status(500, None));
    desk.flare(&["provision", "--dry-run", "--timeout", "2s"]).fails(8, "took too long");
}
