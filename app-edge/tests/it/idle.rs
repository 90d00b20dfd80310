//! Sessions that nobody uses go to sleep: on a clock that the test moves, with an agent that says what it is told to.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::{Request, Response, StatusCode};
use burstflare_app_edge::harness::{Harness, Parts};
use burstflare_ports::clock::Clock as _;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{AgentLink, AgentTarget};
use burstflare_ports::memory::ManualClock;
use burstflare_ports::stream::Body;
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::{Activity, Quiesce, Reason, Refusal};
use serde_json::{Value, json};

use crate::machine::Scripted;
use crate::support::{World, call};

const MINUTE: Duration = Duration::from_secs(60);

/// What the agent is told to say.
struct Script {
    active_at: Timestamp,
    silent: bool,
    /// Somebody does something in the moment in which the machine is told to rest.
    interrupts: bool,
}

struct Agent {
    inner: Arc<Scripted>,
    clock: ManualClock,
    script: Mutex<Script>,
}

impl Agent {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no panic")
    }

    fn active_now(&self) {
        self.script().active_at = self.clock.now();
    }
}

fn answer(status: StatusCode, message: &impl serde::Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(message).expect("a message");
    Response::builder().status(status).body(Body::Full(bytes.into())).expect("a response")
}

#[async_trait]
impl AgentLink for Agent {
    async fn send(
        &self,
        target: &AgentTarget,
        request: Request<Body>,
        deadline: Duration,
    ) -> PortResult<Response<Body>> {
        let path = request.uri().path().to_owned();
        if self.script().silent && path != "/ready" {
            return Err(PortError::new(ErrorKind::Unavailable, "agent.send", "it does not answer"));
        }
        match path.as_str() {
            "/v1/activity" => {
                let now = self.clock.now();
                let active_at = self.script().active_at;
                Ok(answer(
                    StatusCode::OK,
                    &Activity {
                        last_active_ms_ago: u64::try_from(now.since(active_at).as_millis()).expect("short"),
                        reason: Reason::TerminalInput,
                        busy: Vec::new(),
                        cpu_ms: 5,
                        mark: u64::try_from(active_at.millis()).expect("after 1970"),
                        ending: false,
                    },
                ))
            }
            "/v1/quiesce" => {
                let bytes = request.into_body().collect(1 << 10, "agent").await?;
                let wish: Quiesce = serde_json::from_slice(&bytes).expect("a wish");
                if std::mem::take(&mut self.script().interrupts) {
                    self.active_now();
                }
                let active_at = u64::try_from(self.script().active_at.millis()).expect("after 1970");
                if wish.if_idle_since.is_some_and(|mark| active_at > mark) {
                    let refusal = Refusal { code: "busy".to_owned(), message: "Somebody came.".to_owned() };
                    return Ok(answer(StatusCode::CONFLICT, &refusal));
                }
                Ok(Response::new(Body::empty()))
            }
            _ => self.inner.send(target, request, deadline).await,
        }
    }
}

struct Idle {
    world: World,
    clock: ManualClock,
    agent: Arc<Agent>,
    token: String,
    /// Path of the session.
    path: String,
}

impl Idle {
    /// A session that runs, of a template that says nothing: it sleeps after half an hour.
    async fn new(plan: &str) -> Self {
        let clock = ManualClock::new(Timestamp::from_millis(1_800_000_000_000));
        let inner = Arc::new(Scripted::default());
        let script = Script { active_at: clock.now(), silent: false, interrupts: false };
        let agent =
            Arc::new(Agent { inner: inner.clone(), clock: clock.clone(), script: Mutex::new(script) });
        let parts = Parts {
            runtime: inner,
            agents: agent.clone(),
            clock: Arc::new(clock.clone()),
            plan: plan.to_owned(),
            ..Parts::default()
        };
        let world = World { harness: Harness::with(parts).await.expect("a harness") };
        // What waits a moment for its turn is not waited for: time passes a little until the session runs.
        let (moving, stop) = (clock.clone(), Arc::new(tokio::sync::Notify::new()));
        let stopped = Arc::clone(&stop);
        let ticking = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stopped.notified() => return,
                    () = tokio::time::sleep(Duration::from_millis(5)) => moving.advance(Duration::from_millis(5)),
                }
            }
        });
        let (token, _) = world.register("you@example.com").await;
        let template = world.template(&token, "t").await;
        let session = world.session(&token, "s", &template, "private").await;
        stop.notify_one();
        ticking.await.expect("it stops");
        agent.active_now();
        Self { world, clock, agent, token, path: format!("/api/v1/sessions/{session}") }
    }

    async fn show(&self) -> Value {
        self.world.send(call("GET", &self.path).token(&self.token)).await.expect(200)
    }

    async fn until(&self, state: &str) -> Value {
        self.world.until(&self.token, &self.path, |session| session["state"] == state).await
    }

    async fn change(&self, wish: Value) -> crate::support::Answer {
        self.world.send(call("PATCH", &self.path).token(&self.token).json(&wish)).await
    }

    /// Waits for an event of this kind; answers the newest one's data.
    async fn event(&self, kind: &str) -> Value {
        let (plane, session) = (self.world.harness.plane(), self.show().await["id"].clone());
        let caller =
            plane.authenticate(&self.token, burstflare_ports::record::Origin::default()).await.expect("in");
        for _ in 0..1_000 {
            let events = plane.ports().store.events(caller.workspace.id, 0, 200).await.expect("events");
            let found = events.into_iter().rev().find(|stored| {
                stored.event.kind == kind && stored.event.subject == session.as_str().unwrap_or_default()
            });
            if let Some(found) = found {
                return found.event.data;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{kind} never came");
    }

    /// Moves the clock until the session has been idle for so long.
    fn idle_for(&self, span: Duration) {
        let active_at = self.agent.script().active_at;
        self.clock.set(active_at.after(span));
    }
}

#[tokio::test]
async fn it_sleeps_after_exactly_its_idle_time_and_says_why() {
    let idle = Idle::new("local").await;
    let active_at = idle.agent.script().active_at;
    let shown = idle.show().await;
    assert_eq!(shown["idle"]["sleep_after"], "30m");
    assert_eq!(shown["idle"]["reason"], "terminal_input");
    assert_eq!(shown["idle"]["since"], json!(active_at));
    assert_eq!(shown["idle"]["sleeps_at"], json!(active_at.after(30 * MINUTE)));
    assert_eq!((&shown["stopped_by"], &shown["sleep_after"]), (&Value::Null, &Value::Null));
    idle.idle_for(25 * MINUTE);
    let soon = idle.event("session.sleeping_soon").await;
    assert_eq!(soon["sleeps_at"], json!(active_at.after(30 * MINUTE)));
    idle.idle_for(30 * MINUTE - Duration::from_millis(1));
    assert_eq!(idle.show().await["state"], "running");
    idle.idle_for(30 * MINUTE);
    let asleep = idle.until("sleeping").await;
    assert_eq!(asleep["stopped_by"], "idle");
    assert!(asleep["failure"].is_null() && asleep["idle"].is_null(), "{asleep}");
    assert!(asleep["snapshot"].is_string(), "its files are kept: {asleep}");
    assert_eq!(idle.event("session.slept").await["reason"], "idle");
    // It wakes as ever, and what ended its last machine is over.
    let start = format!("{}/start", idle.path);
    idle.world.send(call("POST", &start).token(&idle.token)).await.expect(200);
    assert!(idle.until("running").await["stopped_by"].is_null());
}

#[tokio::test]
async fn activity_puts_it_off_and_looking_at_it_does_not() {
    let idle = Idle::new("local").await;
    idle.idle_for(25 * MINUTE);
    idle.event("session.sleeping_soon").await;
    // Somebody types a minute before; the next half hour begins.
    idle.idle_for(29 * MINUTE);
    idle.agent.active_now();
    idle.idle_for(20 * MINUTE);
    for _ in 0..20 {
        assert_eq!(idle.show().await["state"], "running");
    }
    idle.idle_for(30 * MINUTE);
    assert_eq!(idle.until("sleeping").await["stopped_by"], "idle");
}

#[tokio::test]
async fn an_agent_that_does_not_answer_is_never_idle() {
    let idle = Idle::new("local").await;
    idle.agent.script().silent = true;
    for minutes in [25, 30, 40, 50] {
        idle.idle_for(minutes * MINUTE);
        let asleep = idle.world.until(&idle.token, &idle.path, |session| session["idle"].is_null()).await;
        assert_eq!(asleep["state"], "running");
    }
    idle.agent.script().silent = false;
    // A look that is just ending without an answer puts the next one off, so time has to go on. Tokens live for an hour.
    let passes = |session: &Value| {
        idle.clock.advance(Duration::from_millis(500));
        session["state"] == "sleeping"
    };
    assert_eq!(idle.world.until(&idle.token, &idle.path, passes).await["stopped_by"], "idle");
}

#[tokio::test]
async fn whoever_comes_between_decision_and_sleep_wins() {
    let idle = Idle::new("local").await;
    // Tokens live for an hour.
    idle.change(json!({ "sleep_after": "20m" })).await.expect(200);
    idle.agent.script().interrupts = true;
    idle.idle_for(15 * MINUTE);
    idle.event("session.sleeping_soon").await;
    let decided = idle.clock.now().after(5 * MINUTE);
    idle.idle_for(20 * MINUTE);
    let came = async {
        while idle.agent.script().interrupts {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), came).await.expect("it was told to rest");
    assert_eq!(idle.agent.script().active_at, decided);
    let awake = idle.show().await;
    assert_eq!(
        (&awake["state"], &awake["idle"]["sleeps_at"]),
        (&json!("running"), &json!(decided.after(20 * MINUTE)))
    );
    idle.idle_for(20 * MINUTE);
    idle.until("sleeping").await;
}

#[tokio::test]
async fn its_people_choose_when_it_sleeps() {
    let idle = Idle::new("local").await;
    idle.change(json!({ "sleep_after": "never" })).await.expect(200);
    let shown = idle.show().await;
    assert_eq!(shown["sleep_after"], "never");
    assert_eq!((&shown["idle"]["sleep_after"], &shown["idle"]["sleeps_at"]), (&json!("never"), &Value::Null));
    idle.idle_for(40 * MINUTE);
    assert_eq!(idle.show().await["state"], "running");
    for (wish, status, code) in [
        (json!({ "sleep_after": "9s" }), 400, "invalid"),
        (json!({ "sleep_after": "8d" }), 400, "invalid"),
        (json!({ "sleep_after": "soon" }), 400, "invalid"),
        (json!({ "sleep_after": 30 }), 400, "invalid"),
        (json!({ "name": "A B" }), 400, "invalid"),
        (json!({ "owner": "x" }), 400, "invalid"),
    ] {
        let refused = idle.change(wish.clone()).await;
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (status, code), "{wish}");
    }
    // Shorter than it has been idle already: it sleeps at once, although its actor thought it had time.
    let changed = idle
        .change(json!({ "sleep_after": "10s", "name": "other", "sharing": "workspace" }))
        .await
        .expect(200);
    assert_eq!(
        (&changed["name"], &changed["sharing"], &changed["sleep_after"]),
        (&json!("other"), &json!("workspace"), &json!("10s"))
    );
    idle.until("sleeping").await;
    let changed = idle.change(json!({ "sleep_after": "template" })).await.expect(200);
    assert_eq!((&changed["name"], &changed["sleep_after"]), (&json!("other"), &Value::Null));
    assert_eq!(idle.event("session.changed").await["name"], "other");
}

#[tokio::test]
async fn names_stay_unique_and_plans_let_nobody_stay_awake_for_good() {
    let idle = Idle::new("tiny").await;
    let refused = idle.change(json!({ "sleep_after": "never" })).await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (403, "plan_sleeps"));
    let refused = idle.change(json!({ "sleep_after": "2h" })).await;
    assert_eq!(refused.problem(), "plan_sleeps");
    idle.change(json!({ "sleep_after": "1h" })).await.expect(200);
    idle.world.send(call("POST", &format!("{}/stop", idle.path)).token(&idle.token)).await.expect(200);
    let asleep = idle.until("sleeping").await;
    assert_eq!(asleep["stopped_by"], "person");
    let wish = json!({ "name": "second", "template": asleep["template"] });
    let made =
        idle.world.send(call("POST", "/api/v1/sessions").token(&idle.token).json(&wish)).await.expect(201);
    let second = format!("/api/v1/sessions/{}", made["id"].as_str().unwrap_or_default());
    let taken =
        idle.world.send(call("PATCH", &second).token(&idle.token).json(&json!({ "name": "s" }))).await;
    assert_eq!((taken.status.as_u16(), taken.problem().as_str()), (409, "name_taken"));
}
