//! Another tenant's things are not there.

use burstflare_app_edge::{Accepts, Access, endpoints};
use serde_json::{Value, json};

use crate::support::{World, call, text};

#[tokio::test]
async fn a_foreign_id_is_answered_like_one_that_does_not_exist() {
    let world = World::new().await;
    let (owner, made) = world.register("owner@example.com").await;
    let template = world.template(&owner, "t").await;
    let version =
        text(&world.send(call("GET", "/api/v1/templates/t").token(&owner)).await.json()["current_version"]);
    let builds = world.send(call("GET", "/api/v1/builds").token(&owner)).await.json();
    let session = world.session(&owner, "s", &template, "workspace").await;
    let wish = json!({ "name": "x", "scopes": ["read"] });
    let token = world.send(call("POST", "/api/v1/tokens").token(&owner).json(&wish)).await.json();
    let snapshot = world.snapshot(&text(&made["workspace"]["id"]), &session).await;
    let (stranger, _) = world.register("stranger@example.com").await;
    let known = [
        ("{terminal}", "1".to_owned(), "1"),
        ("{template}", template.clone(), "tpl_01JD0000000000000000000000"),
        ("{version}", version, "ver_01JD0000000000000000000000"),
        ("{build}", text(&builds["items"][0]["id"]), "bld_01JD0000000000000000000000"),
        ("{snapshot}", snapshot, "snp_01JD0000000000000000000000"),
        ("{session}", session, "ses_01JD0000000000000000000000"),
        ("{token}", text(&token["id"]), "tok_01JD0000000000000000000000"),
        ("{workspace}", text(&made["workspace"]["id"]), "ws_01JD0000000000000000000000"),
    ];
    let fill = |path: &str, foreign: bool| {
        let path = path.replace("{port}", "3000");
        known.iter().fold(path, |path, (name, real, invented)| {
            path.replace(name, if foreign { real } else { invented })
        })
    };
    let mut compared = 0;
    for endpoint in endpoints() {
        let Access::Bearer(_) = endpoint.access else { continue };
        // Secrets are named, and the same name is somebody else's in another workspace: a test of their own.
        if !endpoint.path.contains('{') || endpoint.path.contains("{secret}") {
            continue;
        }
        let mut answers = Vec::new();
        for foreign in [true, false] {
            let path = fill(&endpoint.path, foreign) + query(&endpoint.path);
            let mut sent = call(endpoint.method.as_str(), &path).token(&stranger);
            sent = match endpoint.accepts {
                Accepts::Json | Accepts::OptionalJson => sent.json(&body(&endpoint.path)),
                Accepts::Archive => sent.body("application/gzip", crate::support::bundle_of("")),
                Accepts::Bytes => sent.body("application/octet-stream", "x"),
                Accepts::Nothing => sent,
            };
            let answer = world.send(sent).await;
            let mut document = answer.json();
            document["request_id"] = Value::Null;
            answers.push((answer.status.as_u16(), document));
        }
        let name = format!("{} {}", endpoint.method, endpoint.path);
        assert_eq!(answers[0].0, 404, "{name}: {}", answers[0].1);
        assert_eq!(answers[0], answers[1], "{name}");
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
    for list in ["templates", "sessions", "builds", "releases"] {
        let seen = world.send(call("GET", &format!("/api/v1/{list}")).token(&stranger)).await.expect(200);
        assert_eq!(seen["items"], json!([]), "{list}");
    }
    let template = json!({ "name": "mine", "template": template });
    let answer = world.send(call("POST", "/api/v1/sessions").token(&stranger).json(&template)).await;
    assert_eq!(answer.status, 404);
}

/// What a route wants to be asked with.
pub(crate) fn query(path: &str) -> &'static str {
    match path.rsplit('/').next().unwrap_or_default() {
        "files" | "archive" => "?path=a",
        "search" => "?name=a",
        _ => "",
    }
}

/// A well formed body for a route.
pub(crate) fn body(path: &str) -> Value {
    match path.rsplit('/').next().unwrap_or_default() {
        "versions" => json!({ "label": "9" }),
        "promote" => json!({ "version": "1.0.0" }),
        "exec" => json!({ "argv": ["true"] }),
        "files" => json!({ "action": "mkdir", "path": "a" }),
        "{port}" => json!({ "visibility": "private" }),
        "fork" => json!({ "name": "f" }),
        "attach" => json!({ "purpose": "ssh", "ssh_key": KEY }),
        _ => json!({}),
    }
}

/// A public key.
pub(crate) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
