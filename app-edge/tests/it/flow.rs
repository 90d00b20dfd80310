//! The main job over HTTP.

use serde_json::json;

use crate::support::{World, call, text};

#[tokio::test]
async fn from_register_to_a_command_in_a_session() {
    let world = World::new().await;
    let (token, made) = world.register("you@example.com").await;
    assert_eq!(made["recovery_codes"].as_array().map(Vec::len), Some(10));
    assert_eq!(made["role"], "owner");
    let me = world.send(call("GET", "/api/v1/me").token(&token)).await.expect(200);
    assert_eq!(me["workspace"], made["workspace"]);

    let template = world.template(&token, "node-dev").await;
    let shown = world.send(call("GET", "/api/v1/templates/node-dev").token(&token)).await.expect(200);
    assert_eq!(shown["id"], template.as_str());
    assert!(text(&shown["current_version"]).starts_with("ver_"));
    let log = world.send(call("GET", "/api/v1/builds?limit=1").token(&token)).await.expect(200);
    let build = text(&log["items"][0]["id"]);
    let part = world.send(call("GET", &format!("/api/v1/builds/{build}/log?offset=0")).token(&token)).await;
    assert_eq!(part.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(part.header("flare-log-complete"), "true");
    assert_eq!(part.header("flare-log-next"), part.bytes.len().to_string());
    assert!(part.text().contains("ok"), "{}", part.text());

    let session = world.session(&token, "sandbox", "node-dev", "private").await;
    let exec = call("POST", "/api/v1/sessions/sandbox/exec").token(&token);
    let ran = world.send(exec.json(&json!({ "argv": ["/bin/sh", "-c", "echo ok"] }))).await;
    assert_eq!(ran.header("content-type"), "application/jsonl");
    assert_eq!(ran.text(), "{\"stdout\":\"ok\\n\"}\n{\"exit\":0}\n");

    world.send(call("POST", &format!("/api/v1/sessions/{session}/stop")).token(&token)).await.expect(200);
    let path = format!("/api/v1/sessions/{session}");
    world.until(&token, &path, |session| session["state"] == "sleeping").await;
    let snapshots = world.send(call("GET", &format!("{path}/snapshots")).token(&token)).await.expect(200);
    assert_eq!(snapshots["items"][0]["state"], "complete");
    world.send(call("POST", &format!("{path}/start")).token(&token)).await.expect(200);
    let again = world.until(&token, &path, |session| session["state"] == "running").await;
    assert_eq!(again["epoch"], 2);
    assert_eq!(again["runtime"]["limits"]["disk"], "watched");

    let gone = world.send(call("DELETE", &path).token(&token)).await.expect(202);
    assert_eq!(gone["goal"], "delete");
    let audit = world.send(call("GET", "/api/v1/audit").token(&token)).await.expect(200);
    let actions: Vec<_> =
        audit["items"].as_array().expect("lines").iter().map(|line| &line["action"]).collect();
    assert!(actions.contains(&&json!("session.exec")), "{actions:?}");
    assert_eq!(audit["items"][0]["ip"], "127.0.0.1");
}

#[tokio::test]
async fn promoting_and_rolling_back() {
    let world = World::new().await;
    let (token, _) = world.register("you@example.com").await;
    let template = world.template(&token, "t").await;
    let promote = |version: &str| {
        call("POST", "/api/v1/templates/t/promote").token(&token).json(&json!({ "version": version }))
    };
    assert_eq!(world.upload(&token, &template, "2").await["state"], "succeeded");
    let second = world.send(promote("2")).await.expect(200);
    assert_eq!(second["number"], 2);
    assert_eq!(world.send(promote("2")).await.expect(200)["id"], second["id"], "promoting what is current");
    let back = call("POST", "/api/v1/templates/t/rollback").token(&token);
    assert_eq!(world.send(back).await.expect(200)["cause"], "rollback");
    let nothing = world.send(call("POST", "/api/v1/templates/t/rollback").token(&token)).await;
    assert_eq!(nothing.status, 409);
    assert_eq!(nothing.problem(), "nothing_to_roll_back");
    let list = world.send(call("GET", "/api/v1/releases?template=t").token(&token)).await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn sign_ins_end_and_come_back() {
    let world = World::new().await;
    let (token, made) = world.register("you@example.com").await;
    let refresh = |token: &str| call("POST", "/api/v1/auth/refresh").json(&json!({ "refresh_token": token }));
    let first = text(&made["tokens"]["refresh_token"]);
    let next = world.send(refresh(&first)).await.expect(200);
    // Using it again tells that somebody else has a copy.
    assert_eq!(world.send(refresh(&first)).await.status, 401);
    let ended = text(&next["tokens"]["access_token"]);
    for token in [&token, &ended] {
        assert_eq!(world.send(call("GET", "/api/v1/me").token(token)).await.status, 401);
    }
    let recover = || {
        let code = &made["recovery_codes"][3];
        call("POST", "/api/v1/auth/recover").json(&json!({ "email": "you@example.com", "code": code }))
    };
    let back = world.send(recover()).await.expect(200);
    assert_eq!(world.send(recover()).await.status, 401, "a code works once");
    let token = text(&back["tokens"]["access_token"]);
    world.send(call("POST", "/api/v1/auth/logout").token(&token)).await.expect(204);
    assert_eq!(world.send(call("GET", "/api/v1/me").token(&token)).await.status, 401);
}

#[tokio::test]
async fn personal_tokens_are_held_to_their_scopes() {
    let world = World::new().await;
    let (token, _) = world.register("you@example.com").await;
    let wish = json!({ "name": "ci", "scopes": ["read"], "expires_in_s": 60 });
    let made = world.send(call("POST", "/api/v1/tokens").token(&token).json(&wish)).await.expect(201);
    let personal = text(&made["token"]);
    world.send(call("GET", "/api/v1/templates").token(&personal)).await.expect(200);
    let create = call("POST", "/api/v1/templates").token(&personal).json(&json!({ "name": "t" }));
    let refused = world.send(create).await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (403, "scope_missing"));
    let path = format!("/api/v1/tokens/{}", text(&made["id"]));
    let listed = world.send(call("GET", "/api/v1/tokens").token(&token)).await.expect(200);
    assert_eq!(listed["items"][0]["id"], made["id"]);
    assert!(listed["items"][0].get("token").is_none());
    world.send(call("DELETE", &path).token(&token)).await.expect(204);
    assert_eq!(world.send(call("GET", "/api/v1/me").token(&personal)).await.status, 401);
}
