//! Which hosts and pages are answered.

use burstflare_app_edge::{EdgeConfig, Origin};
use serde_json::json;

use crate::support::{World, call};

#[tokio::test]
async fn a_rebound_name_reaches_nothing() {
    let world = World::new().await;
    for host in ["evil.example:8787", "evil.example", "127.0.0.1:1", "preview.localhost:8787"] {
        for path in ["/", "/healthz", "/api/v1/me", "/assets/app.js", "/nowhere"] {
            let answer = world.send(call("GET", path).host(host)).await;
            assert_eq!(answer.status, 421, "{host}{path}");
            assert_eq!(answer.problem(), "misdirected");
        }
    }
    let register = call("POST", "/api/v1/auth/register").json(&json!({ "email": "a@example.com" }));
    assert_eq!(world.send(register.host("evil.example:8787")).await.status, 421);
    let (_, made) = world.register("a@example.com").await;
    assert_eq!(made["user"]["email"], "a@example.com", "the refused one had no effect");
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let world = World::new().await;
    let register = || call("POST", "/api/v1/auth/register").json(&json!({ "email": "a@example.com" }));
    for origin in ["https://evil.example", "null", "http://127.0.0.1:9999", "http://x.preview.localhost:8787"]
    {
        let answer = world.send(register().header("origin", origin)).await;
        assert_eq!(answer.status, 403, "{origin}");
        assert_eq!(answer.problem(), "foreign_origin");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    for site in ["cross-site", "same-site"] {
        assert_eq!(world.send(register().header("sec-fetch-site", site)).await.status, 403, "{site}");
    }
    // What such a page can send without a preflight: a body that is not called JSON.
    let simple = call("POST", "/api/v1/auth/register").body("text/plain", r#"{"email":"a@example.com"}"#);
    assert_eq!(world.send(simple).await.status, 415);
    // A preflight is granted nothing.
    let preflight = call("OPTIONS", "/api/v1/auth/register")
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "POST");
    let answer = world.send(preflight).await;
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
    let ours = register().header("origin", "http://127.0.0.1:8787").header("sec-fetch-site", "same-origin");
    world.send(ours).await.expect(201);
}

#[tokio::test]
async fn a_websocket_of_another_page_is_refused_before_its_ticket_is_looked_at() {
    let world = World::new().await;
    let upgrade = || {
        call("GET", "/api/v1/sessions/x/ssh?ticket=t")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
    };
    let foreign = world.send(upgrade().header("origin", "https://evil.example")).await;
    assert_eq!((foreign.status.as_u16(), foreign.problem().as_str()), (403, "foreign_origin"));
    assert_ne!(world.send(upgrade()).await.status, 403);
}

#[tokio::test]
async fn browsers_are_sent_to_the_dashboards_name() {
    let world = World::new().await;
    let navigate =
        |path| call("GET", path).header("accept", "text/html,*/*").header("sec-fetch-mode", "navigate");
    let answer = world.send(navigate("//evil.example/?a=b")).await;
    assert_eq!(answer.status, 307);
    assert_eq!(answer.header("location"), "http://flare.localhost:8787//evil.example/?a=b");
    assert_eq!(world.send(navigate("/").host("flare.localhost:8787")).await.status, 200);
    assert_eq!(world.send(call("GET", "/").header("accept", "*/*")).await.status, 200, "curl");
    assert_eq!(world.send(navigate("/api/v1/openapi.json")).await.status, 200);
}

#[tokio::test]
async fn a_configured_origin_is_a_host_and_its_pages_are_ours() {
    let origin = Origin::parse("https://flare.example.com").expect("an origin");
    let world = World::with(EdgeConfig::serve(8787, origin)).await;
    let register = |email| {
        call("POST", "/api/v1/auth/register").json(&json!({ "email": email })).host("flare.example.com")
    };
    world.send(register("a@example.com").header("origin", "https://flare.example.com")).await.expect(201);
    let downgraded = world.send(register("b@example.com").header("origin", "http://flare.example.com")).await;
    assert_eq!(downgraded.status, 403);
    let home = world.send(call("GET", "/").host("flare.example.com")).await;
    assert!(home.header("strict-transport-security").starts_with("max-age="));
    assert!(home.text().contains("--url https://flare.example.com"));
}

#[tokio::test]
async fn unauthenticated_routes_are_counted_by_address_and_loopback_is_not_in_dev() {
    let world = World::new().await;
    let refresh = |from: &str| {
        let mut call = call("POST", "/api/v1/auth/refresh").json(&json!({ "refresh_token": "x" }));
        call.from = from.parse().expect("an address");
        call
    };
    for _ in 0..60 {
        assert_eq!(world.send(refresh("192.0.2.1")).await.status, 401);
    }
    let answer = world.send(refresh("192.0.2.1")).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (429, "too_many_requests"));
    assert!((1..=60).contains(&answer.header("retry-after").parse::<u64>().expect("seconds")));
    assert_eq!(world.send(refresh("192.0.2.2")).await.status, 401);
    for _ in 0..100 {
        assert_eq!(world.send(refresh("127.0.0.1")).await.status, 401);
    }
}

#[tokio::test]
async fn metrics_are_this_machines_alone() {
    let world = World::new().await;
    world.send(call("GET", "/api/v1/me")).await;
    let text = world.send(call("GET", "/metrics")).await.text();
    assert!(text.contains("path=\"/api/v1/me\",status=\"4xx\"} 1"), "{text}");
    let mut remote = call("GET", "/metrics");
    remote.from = "192.0.2.1".parse().expect("an address");
    assert_eq!(world.send(remote).await.status, 404);
}
