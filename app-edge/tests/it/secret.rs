//! Secrets of a workspace: who may, what is shown, and what machines are told.

use std::sync::Arc;
use std::time::Duration;

use burstflare_app_edge::harness::{Harness, Parts};
use burstflare_core::{Config, ControlPlane};
use burstflare_ports::record::Origin;
use burstflare_ports::secret::Secret;
use serde_json::{Value, json};

use crate::machine::Scripted;
use crate::support::{World, call};

const PLAIN: &str = "sesame 'quoted' value";

async fn world(plan: &str) -> (World, Arc<Scripted>, String) {
    let machines = Arc::new(Scripted::default());
    let parts = Parts {
        runtime: machines.clone(),
        agents: machines.clone(),
        plan: plan.to_owned(),
        ..Parts::default()
    };
    let world = World { harness: Harness::with(parts).await.expect("a harness") };
    let (token, _) = world.register("you@example.com").await;
    (world, machines, token)
}

async fn set(world: &World, token: &str, name: &str, value: &str) -> crate::support::Answer {
    let path = format!("/api/v1/secrets/{name}");
    world.send(call("PUT", &path).token(token).json(&json!({ "value": value }))).await
}

/// Waits until the machine was told this.
async fn told(machines: &Scripted, version: u64, values: Value) {
    let wanted = json!({ "version": version, "values": values });
    for _ in 0..1_000 {
        if machines.told().contains(&wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{wanted} is not in {:?}", machines.told());
}

#[tokio::test]
async fn machines_are_told_at_their_start_and_at_every_change() {
    let (world, machines, token) = world("local").await;
    let template = world.template(&token, "t").await;
    assert!(machines.told().is_empty(), "no build is told anything");
    let made = set(&world, &token, "API_TOKEN", PLAIN).await.expect(200);
    assert_eq!(
        (&made["name"], &made["version"], &made["bytes"]),
        (&json!("API_TOKEN"), &json!(1), &json!(PLAIN.len()))
    );
    world.session(&token, "s", &template, "private").await;
    told(&machines, 1, json!({ "API_TOKEN": PLAIN })).await;
    let changed = set(&world, &token, "API_TOKEN", "new").await.expect(200);
    assert_eq!((&changed["id"], &changed["version"]), (&made["id"], &json!(2)));
    told(&machines, 2, json!({ "API_TOKEN": "new" })).await;
    set(&world, &token, "SECOND", "2").await.expect(200);
    told(&machines, 3, json!({ "API_TOKEN": "new", "SECOND": "2" })).await;
    let gone = world.send(call("DELETE", "/api/v1/secrets/API_TOKEN").token(&token)).await;
    assert_eq!(gone.status, 204);
    told(&machines, 4, json!({ "SECOND": "2" })).await;
    let missing = world.send(call("GET", "/api/v1/secrets/API_TOKEN").token(&token)).await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn values_are_never_shown_again() {
    let (world, _, token) = world("local").await;
    set(&world, &token, "API_TOKEN", PLAIN).await.expect(200);
    let mut seen = String::new();
    for path in ["/api/v1/secrets", "/api/v1/secrets/API_TOKEN", "/api/v1/audit"] {
        let answer = world.send(call("GET", path).token(&token)).await;
        assert_eq!(answer.status, 200, "{path}");
        seen.push_str(&answer.text());
    }
    assert!(seen.contains("API_TOKEN") && seen.contains("secret.set"), "{seen}");
    let store = &world.harness.plane().ports().store;
    let caller = world.harness.plane().authenticate(&token, Origin::default()).await.expect("in");
    let events = store.events(caller.workspace.id, 0, 200).await.expect("events");
    let row = store
        .secret_by_name(caller.workspace.id, &"API_TOKEN".parse().expect("a name"))
        .await
        .expect("a row");
    seen.push_str(&format!("{events:?} {row:?}"));
    for (wish, code) in [
        (json!({ "value": format!("{PLAIN}\0") }), "invalid"),
        (json!({ "value": [PLAIN] }), "invalid"),
        (json!({ "value": PLAIN, "more": PLAIN }), "invalid"),
    ] {
        let answer = world.send(call("PUT", "/api/v1/secrets/OTHER").token(&token).json(&wish)).await;
        seen.push_str(&answer.text());
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, code));
    }
    assert!(!seen.contains("sesame"), "{seen}");
}

#[tokio::test]
async fn names_numbers_and_neighbours() {
    let (world, _, token) = world("tiny").await;
    for name in ["1A", "A-B", "a.b", "PATH", "LD_PRELOAD", "FLARE_TOKEN"] {
        assert_eq!(set(&world, &token, name, "x").await.status, 400, "{name}");
    }
    assert_eq!(set(&world, &token, "A", &"x".repeat((64 << 10) + 1)).await.problem(), "too_large");
    set(&world, &token, "A", &"x".repeat(64 << 10)).await.expect(200);
    set(&world, &token, "B", "").await.expect(200);
    assert_eq!(set(&world, &token, "C", "x").await.problem(), "quota_exceeded");
    set(&world, &token, "B", "again").await.expect(200);
    // The same name elsewhere is another secret.
    let (stranger, _) = world.register("stranger@example.com").await;
    for method in ["GET", "DELETE"] {
        assert_eq!(world.send(call(method, "/api/v1/secrets/A").token(&stranger)).await.status, 404);
    }
    assert_eq!(set(&world, &stranger, "A", "theirs").await.expect(200)["version"], 1);
    let listed = world.send(call("GET", "/api/v1/secrets").token(&stranger)).await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn of_many_writers_everyone_is_counted() {
    let (world, machines, token) = world("local").await;
    let template = world.template(&token, "t").await;
    world.session(&token, "s", &template, "private").await;
    let writers = (0..4).map(|number| {
        let (world, token) = (&world, &token);
        async move { set(world, token, &format!("N{number}"), "x").await.expect(200) }
    });
    futures_util::future::join_all(writers).await;
    told(&machines, 4, json!({ "N0": "x", "N1": "x", "N2": "x", "N3": "x" })).await;
}

#[tokio::test]
async fn a_new_master_key_seals_data_keys_anew() {
    let (world, machines, token) = world("local").await;
    set(&world, &token, "A", "kept").await.expect(200);
    let plane = world.harness.plane();
    let with = |master_key: u8, earlier: &[u8]| {
        let config = Config {
            master_key: Secret::new([master_key; 32]),
            earlier_master_keys: earlier.iter().map(|key| Secret::new([*key; 32])).collect(),
            ..plane.config().clone()
        };
        ControlPlane::new(plane.ports().clone(), config)
    };
    let caller = plane.authenticate(&token, Origin::default()).await.expect("in");
    let value = Secret::new("more".to_owned());
    let refused = with(9, &[]).set_secret(&caller, "B", &value).await.expect_err("it knows no key");
    assert_eq!(refused.code, "internal");
    with(9, &[7]).reconcile().await.expect("done");
    // The old one may go: what it sealed is sealed by the new one now.
    with(9, &[]).set_secret(&caller, "B", &value).await.expect("set");
    plane.set_secret(&caller, "C", &value).await.expect_err("the old one is over");
    assert!(machines.told().is_empty());
}
