//! Server-sent events.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::json;
use tower::ServiceExt as _;

use crate::support::{Call, World, call};

/// Reads the stream until it holds the text.
pub(crate) async fn read_until(
    world: &World,
    listen: Call,
    wanted: &str,
    meanwhile: impl Future<Output = ()>,
) -> String {
    let response = world.harness.router().oneshot(listen.request()).await.expect("infallible");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut flow = response.into_body().into_data_stream();
    let mut all = String::new();
    let first = flow.next().await.expect("a greeting").expect("bytes");
    all.push_str(std::str::from_utf8(&first).expect("text"));
    meanwhile.await;
    let reading = async {
        while !all.contains(wanted) {
            let Some(chunk) = flow.next().await else { break };
            all.push_str(std::str::from_utf8(&chunk.expect("bytes")).expect("text"));
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.ok();
    all
}

#[tokio::test]
async fn events_come_live_and_are_replayed_from_where_one_was() {
    let world = World::new().await;
    let (token, _) = world.register("you@example.com").await;
    let make = async {
        let made = call("POST", "/api/v1/templates").token(&token).json(&json!({ "name": "one" }));
        world.send(made).await.expect(201);
    };
    let live = read_until(&world, call("GET", "/api/v1/events").token(&token), "\ndata: ", make).await;
    assert!(live.starts_with("retry: 2000\nid: 0\n\n"), "{live}");
    assert!(live.contains("event: template."), "{live}");
    let replay = call("GET", "/api/v1/events").token(&token).header("last-event-id", "0");
    let replayed = read_until(&world, replay, "\ndata: ", async {}).await;
    assert!(replayed.contains("id: 1\nevent: template."), "{replayed}");
    let wrong = call("GET", "/api/v1/events").token(&token).header("last-event-id", "yesterday");
    let answer = world.send(wrong).await;
    assert_eq!((answer.status.as_u16(), answer.json()["field"].as_str()), (400, Some("Last-Event-ID")));
}

#[tokio::test]
async fn a_revoked_token_hears_nothing_more() {
    let world = World::new().await;
    let (token, _) = world.register("you@example.com").await;
    let wish = json!({ "name": "ear", "scopes": ["read"] });
    let made = world.send(call("POST", "/api/v1/tokens").token(&token).json(&wish)).await.expect(201);
    let ear = made["token"].as_str().expect("a token");
    let meanwhile = async {
        let path = format!("/api/v1/tokens/{}", made["id"].as_str().expect("an id"));
        world.send(call("DELETE", &path).token(&token)).await.expect(204);
        let made = call("POST", "/api/v1/templates").token(&token).json(&json!({ "name": "secret" }));
        world.send(made).await.expect(201);
    };
    let heard = read_until(&world, call("GET", "/api/v1/events").token(ear), "data: ", meanwhile).await;
    assert!(!heard.contains("data: "), "{heard}");
}
