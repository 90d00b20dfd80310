//! Bad input: a clear problem document, never a 500, and no effect.

use axum::http::StatusCode;
use burstflare_app_edge::{Accepts, Access, endpoints};
use serde_json::json;

use crate::support::{World, bundle_of, call};

#[tokio::test]
async fn no_token_no_answer() {
    let world = World::new().await;
    for endpoint in endpoints().iter().filter(|endpoint| matches!(endpoint.access, Access::Bearer(_))) {
        let path = endpoint.path.replace(['{', '}'], "");
        for token in ["", "nonsense", &"x".repeat(5_000)] {
            let answer = world.send(call(endpoint.method.as_str(), &path).token(token)).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{} {path}", endpoint.method);
            assert_eq!(answer.problem(), "unauthenticated");
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
    }
}

#[tokio::test]
async fn tokens_of_other_types_are_refused() {
    let world = World::new().await;
    let (_, made) = world.register("a@example.com").await;
    let refresh = made["tokens"]["refresh_token"].as_str().expect("a token");
    let recovery = made["recovery_codes"][0].as_str().expect("a code");
    for other in [refresh, recovery] {
        assert_eq!(world.send(call("GET", "/api/v1/me").token(other)).await.status, 401);
    }
}

#[tokio::test]
async fn bodies_of_another_type_are_refused_on_every_route_that_takes_one() {
    let world = World::new().await;
    let (token, _) = world.register("a@example.com").await;
    for endpoint in endpoints().iter().filter(|endpoint| endpoint.accepts != Accepts::Nothing) {
        let path = endpoint.path.replace(['{', '}'], "");
        let plain = call(endpoint.method.as_str(), &path).token(&token).body("text/plain", "{}");
        let answer = world.send(plain).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{} {path}", endpoint.method);
        assert_eq!(answer.problem(), "unsupported_media_type");
    }
}

#[tokio::test]
async fn malformed_json_names_its_field() {
    let world = World::new().await;
    let (token, _) = world.register("a@example.com").await;
    let long = format!("{{\"name\":\"{}\"}}", "a".repeat(10_000));
    let deep = "[".repeat(100_000);
    for (body, field) in [
        ("", "body"),
        ("{", "body"),
        ("null", "body"),
        ("[]", "body"),
        ("[\"a\"]", "body"),
        ("{}", "name"),
        ("{\"name\":null}", "name"),
        ("{\"name\":7}", "name"),
        ("{\"name\":\"Not A Slug\"}", "name"),
        ("{\"name\":\"a\",\"extra\":1}", "extra"),
        ("{\"name\":\"a\",\"name\":\"b\"}", "name"),
        ("{\"name\":\"\\ud800\"}", "name"),
        (&long, "name"),
        (&deep, "body"),
    ] {
        let sent = call("POST", "/api/v1/templates").token(&token).body("application/json", body);
        let answer = world.send(sent).await;
        let shown: String = body.chars().take(40).collect();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        assert_eq!(answer.problem(), "invalid");
        assert_eq!(answer.json()["field"], field, "{shown}: {}", answer.text());
    }
    let list = world.send(call("GET", "/api/v1/templates").token(&token)).await.expect(200);
    assert_eq!(list["items"], json!([]), "nothing was made");
}

#[tokio::test]
async fn malformed_queries_and_paths_are_named() {
    let world = World::new().await;
    let (token, _) = world.register("a@example.com").await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=AAAA", "cursor"),
        ("colour=red", "colour"),
    ] {
        for list in
            ["templates", "sessions", "builds", "releases", "tokens", "members", "workspaces", "audit"]
        {
            let answer = world.send(call("GET", &format!("/api/v1/{list}?{query}")).token(&token)).await;
            assert_eq!(answer.status, 400, "{list}?{query}: {}", answer.text());
            assert_eq!(answer.json()["field"], field, "{list}?{query}");
        }
    }
    let odd = world.send(call("GET", "/api/v1/templates/%ff%fe").token(&token)).await;
    assert_eq!((odd.status.as_u16(), odd.problem().as_str()), (400, "invalid"));
    for missing in ["x".repeat(10_000), "..%2f..%2fetc".to_owned(), "%00".to_owned(), "a%20b".to_owned()] {
        let answer = world.send(call("GET", &format!("/api/v1/templates/{missing}")).token(&token)).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (404, "not_found"));
    }
}

#[tokio::test]
async fn cursors_belong_to_one_list() {
    let world = World::new().await;
    let (token, _) = world.register("a@example.com").await;
    for name in ["one", "two", "three"] {
        let made = call("POST", "/api/v1/templates").token(&token).json(&json!({ "name": name }));
        world.send(made).await.expect(201);
    }
    let mut names = Vec::new();
    let mut path = "/api/v1/templates?limit=1".to_owned();
    let mut cursors = Vec::new();
    loop {
        let page = world.send(call("GET", &path).token(&token)).await.expect(200);
        names.push(page["items"][0]["name"].as_str().expect("a name").to_owned());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        cursors.push(cursor.to_owned());
        path = format!("/api/v1/templates?limit=1&cursor={cursor}");
    }
    assert_eq!(names, ["three", "two", "one"]);
    let (other, _) = world.register("b@example.com").await;
    for (list, token) in [("sessions", &token), ("builds", &token), ("templates", &other)] {
        let path = format!("/api/v1/{list}?cursor={}", cursors[0]);
        let answer = world.send(call("GET", &path).token(token)).await;
        assert_eq!(answer.status, 400, "{list}");
        assert_eq!(answer.json()["field"], "cursor");
    }
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let world = World::new().await;
    let (token, _) = world.register("a@example.com").await;
    let big = call("POST", "/api/v1/templates").token(&token).body("application/json", vec![b' '; 300 << 10]);
    let announced = world.send(big).await;
    assert_eq!((announced.status.as_u16(), announced.problem().as_str()), (413, "too_large"));
    // Without a length it is counted while it is read.
    let mut streamed =
        call("POST", "/api/v1/templates").token(&token).body("application/json", vec![b' '; 300 << 10]);
    streamed.headers.push(("transfer-encoding".to_owned(), "chunked".to_owned()));
    assert_eq!(world.send(streamed).await.status, 413);
    let mut upload = call("PUT", "/api/v1/templates/x/versions/1/bundle").token(&token);
    upload = upload.header("content-type", "application/zstd").header("content-length", "104857601");
    assert_eq!(world.send(upload).await.status, 413, "before the template is looked for or a byte is read");
}

#[tokio::test]
async fn hostile_and_malformed_bundles_leave_a_draft() {
    let world = World::new().await;
    let (token, _) = world.register("a@example.com").await;
    let made = call("POST", "/api/v1/templates").token(&token).json(&json!({ "name": "t" }));
    world.send(made).await.expect(201);
    let draft = call("POST", "/api/v1/templates/t/versions").token(&token).json(&json!({ "label": "1" }));
    world.send(draft).await.expect(201);
    for (bundle, code) in [
        (b"no archive".to_vec(), "bundle_"),
        (Vec::new(), "bundle_"),
        (bundle_of("sleep_after = \"soon\"\n"), "manifest_"),
        (bundle_of("colour = 1\n"), "manifest_"),
    ] {
        let put = call("PUT", "/api/v1/templates/t/versions/1/bundle").token(&token);
        let answer = world.send(put.body("application/gzip", bundle)).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.problem().starts_with(code), "{}", answer.text());
    }
    let version = world.send(call("GET", "/api/v1/templates/t/versions/1").token(&token)).await.expect(200);
    assert_eq!(version["state"], "draft");
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems_too() {
    let world = World::new().await;
    for path in ["/nowhere", "/api/v2/me", "/api/v1/me/", "/API/v1/me"] {
        let answer = world.send(call("GET", path)).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (404, "no_route"), "{path}");
    }
    let answer = world.send(call("DELETE", "/api/v1/me")).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (405, "method_not_allowed"));
    assert!(answer.header("allow").contains("GET"), "{:?}", answer.headers);
    for (method, path) in
        [("GET", "/api/v1/usage"), ("POST", "/api/v1/import"), ("PATCH", "/api/v1/templates/x")]
    {
        let answer = world.send(call(method, path)).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (501, "not_supported"), "{path}");
    }
}
