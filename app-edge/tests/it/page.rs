//! The home page, and the headers of every answer.

use crate::support::{World, call};

#[tokio::test]
async fn the_quick_start_is_six_lines_for_this_server() {
    let world = World::new().await;
    let page = world.send(call("GET", "/").host("flare.localhost:8787")).await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let plain =
        page.text().replace("<var>", "").replace("</var>", "").replace("&lt;", "<").replace("&gt;", ">");
    for line in [
        "flare auth register --email you@example.com --url http://127.0.0.1:8787",
        "flare template create node-dev --url http://127.0.0.1:8787",
        "flare template upload <templateId> --version 1.0.0 --url http://127.0.0.1:8787",
        "flare template promote <templateId> <versionId> --url http://127.0.0.1:8787",
        "flare session up sandbox --template <templateId> --url http://127.0.0.1:8787",
        "flare ssh <sessionId> --url http://127.0.0.1:8787",
    ] {
        assert_eq!(plain.matches(&format!("<code>{line}</code>")).count(), 1, "{line}");
    }
    assert_eq!(plain.matches("<button").count(), 6);
    for fact in ["scripted", "watched", "not held", env!("CARGO_PKG_VERSION"), "open"] {
        assert!(plain.contains(fact), "{fact}");
    }
}

#[tokio::test]
async fn everything_the_page_names_is_served_here() {
    let world = World::new().await;
    let page = world.send(call("GET", "/")).await.text();
    let named: Vec<&str> = ["href=\"", "src=\""]
        .iter()
        .flat_map(|attribute| page.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(named.len() >= 6, "{named:?}");
    for path in named {
        assert!(path.starts_with('/') && !path.starts_with("//"), "{path} is elsewhere");
        assert_eq!(world.send(call("GET", path)).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn every_answer_has_the_headers_that_protect() {
    let world = World::new().await;
    for path in ["/", "/healthz", "/nowhere", "/api/v1/me", "/assets/app.css"] {
        let answer = world.send(call("GET", path)).await;
        let policy = answer.header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{path}: {part}");
        }
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert!(answer.header("flare-request-id").starts_with("req_"), "{path}");
    }
    assert_eq!(world.send(call("GET", "/api/v1/me")).await.header("cache-control"), "no-store");
}

#[tokio::test]
async fn probes_answer() {
    let world = World::new().await;
    assert_eq!(world.send(call("GET", "/healthz")).await.expect(200)["status"], "ok");
    let ready = world.send(call("GET", "/readyz")).await.expect(200);
    assert_eq!(ready["ready"], true);
    for name in ["store", "blobs", "machines"] {
        assert_eq!(ready["probes"][name]["ok"], true, "{name}");
    }
}
