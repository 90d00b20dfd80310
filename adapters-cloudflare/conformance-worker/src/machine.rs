//! Machines over a container of our own making, which does at a word what the platform's own does when something breaks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_adapters_cloudflare::{Internet, MachineHost, Machines, R2Blobs, js};
use burstflare_ports::conformance::{Finding, Verdict};
use burstflare_ports::drive::SessionActor;
use burstflare_ports::error::{ErrorKind, PortResult};
use burstflare_ports::id::Id;
use burstflare_ports::machine::{
    AgentLink as _, AgentTarget, DiskPlan, Epoch, Limits, MachineKey, MachineOwner, MachineRuntime as _,
    MachineSpec, Stopped,
};
use burstflare_ports::record::{Session, Workspace};
use burstflare_ports::secret::Secret;
use burstflare_ports::stream::Body;
use burstflare_ports::time::Timestamp;
use burstflare_ports::wire;
use burstflare_ports::wire::{Boot, run_folder};
use js_sys::{Error as JsError, Function, Object, Promise, Reflect};
use wasm_bindgen::prelude::*;
use worker::{Delay, DurableObject, Env, Error, Request, Response, Result, State, durable_object};

/// The names of the cases.
pub(crate) const CASES: [&str; 6] = [
    "a_start_that_the_platform_refuses_passes",
    "a_start_that_is_refused_for_good_is_said",
    "a_port_that_hangs_is_asked_again",
    "a_call_that_hangs_ends_at_its_deadline",
    "an_end_by_137_is_noticed_once",
    "a_stop_that_ends_by_137_is_a_stop",
];

/// What the container does next. Words of a script are taken from the front; without one all goes well.
#[derive(Default)]
struct Script {
    starts: RefCell<Vec<String>>,
    calls: RefCell<Vec<String>>,
    /// Ends the wait of `monitor`.
    end: RefCell<Option<Function>>,
    started: Cell<u32>,
}

impl Script {
    fn next(words: &RefCell<Vec<String>>) -> Option<String> {
        let mut words = words.borrow_mut();
        if words.is_empty() { None } else { Some(words.remove(0)) }
    }

    /// `monitor` rejects as the platform's does, also where the container was asked to end.
    fn ends(&self, container: &Object) {
        put(container, "running", &JsValue::FALSE);
        let error = JsError::new("Container exited with unexpected exit code: 137");
        put(&error, "exitCode", &JsValue::from(137));
        if let Some(end) = self.end.borrow_mut().take() {
            // A promise's own function.
            let _ = end.call1(&JsValue::UNDEFINED, &error);
        }
    }
}

fn put(object: &Object, name: &str, value: &JsValue) {
    // A plain object takes every property.
    let _ = Reflect::set(object, &JsValue::from_str(name), value);
}

fn never() -> Promise {
    Promise::new(&mut |_, _| {})
}

/// `ctx.container`, as far as it is used.
fn container(script: &Rc<Script>) -> Object {
    let container = Object::new();
    put(&container, "running", &JsValue::FALSE);
    let (this, of) = (container.clone(), Rc::clone(script));
    let start = move |_: JsValue| match Script::next(&of.starts) {
        Some(refusal) => Promise::reject(&JsError::new(&refusal)),
        None => {
            of.started.set(of.started.get() + 1);
            put(&this, "running", &JsValue::TRUE);
            Promise::resolve(&JsValue::UNDEFINED)
        }
    };
    put(&container, "start", &Closure::<dyn FnMut(JsValue) -> Promise>::new(start).into_js_value());
    let of = Rc::clone(script);
    let monitor = move || Promise::new(&mut |_, reject| *of.end.borrow_mut() = Some(reject));
    put(&container, "monitor", &Closure::<dyn FnMut() -> Promise>::new(monitor).into_js_value());
    let (this, of) = (container.clone(), Rc::clone(script));
    let destroy = move || {
        of.ends(&this);
        Promise::resolve(&JsValue::UNDEFINED)
    };
    put(&container, "destroy", &Closure::<dyn FnMut() -> Promise>::new(destroy).into_js_value());
    let port = Object::new();
    let of = Rc::clone(script);
    let fetch = move |_: JsValue| match Script::next(&of.calls).as_deref() {
        Some("hangs") => never(),
        Some(refusal) => Promise::reject(&JsError::new(refusal)),
        None => match ready() {
            Ok(response) => Promise::resolve(&response),
            Err(error) => Promise::reject(&error),
        },
    };
    put(&port, "fetch", &Closure::<dyn FnMut(JsValue) -> Promise>::new(fetch).into_js_value());
    let tcp_port = move |_: JsValue| port.clone();
    put(&container, "getTcpPort", &Closure::<dyn FnMut(JsValue) -> Object>::new(tcp_port).into_js_value());
    container
}

fn ready() -> std::result::Result<JsValue, JsValue> {
    worker::web_sys::Response::new_with_opt_str(Some("{}")).map(JsValue::from)
}

/// Counts how often somebody looked, and sees nothing to do.
struct Looks(AtomicU32);

#[async_trait]
impl SessionActor for Looks {
    async fn tend(&self, _: Id<Workspace>, _: Id<Session>) -> PortResult<Option<Timestamp>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }
}

/// The object of a machine.
#[durable_object(alarm)]
pub struct ScriptedMachine {
    host: Result<MachineHost>,
    script: Rc<Script>,
    container: Object,
    looks: Looks,
}

impl DurableObject for ScriptedMachine {
    fn new(state: State, env: Env) -> Self {
        let script = Rc::<Script>::default();
        let container = container(&script);
        let host = env.bucket("BLOBS").map(|bucket| {
            let given = Some(container.clone().into());
            MachineHost::with_container(state, given, Arc::new(R2Blobs::new(bucket)), Internet::Closed)
        });
        Self { host, script, container, looks: Looks(AtomicU32::new(0)) }
    }

    /// `/script/starts/WORD`, `/script/calls/WORD`, `/script/dies` and `/script/seen`; the rest is for the machine.
    async fn fetch(&self, request: Request) -> Result<Response> {
        let path = request.path();
        let Some(rest) = path.strip_prefix("/script/") else {
            let host = self.host.as_ref().map_err(|error| Error::RustError(error.to_string()))?;
            return host.serve(request).await;
        };
        match rest.split_once('/') {
            Some(("starts", word)) => self.script.starts.borrow_mut().push(word.replace("%20", " ")),
            Some(("calls", word)) => self.script.calls.borrow_mut().push(word.replace("%20", " ")),
            _ if rest == "dies" => self.script.ends(&self.container),
            _ => {}
        }
        Response::from_json(&(self.script.started.get(), self.looks.0.load(Ordering::Relaxed)))
    }

    async fn alarm(&self) -> Result<Response> {
        let host = self.host.as_ref().map_err(|error| Error::RustError(error.to_string()))?;
        host.alarm(&self.looks).await.map_err(|error| Error::RustError(error.to_string()))?;
        Response::empty()
    }
}

/// What a case works with: one machine, and its script.
struct Bench {
    machines: Machines,
    stub: worker::durable::Stub,
    machine: MachineKey,
}

impl Bench {
    fn new(env: &Env, seed: u64) -> Result<Self> {
        let mut chance = [7; 10];
        chance[..8].copy_from_slice(&seed.to_be_bytes());
        let at = Timestamp::from_millis(1);
        let machine =
            MachineKey { workspace: Id::new(at, chance), owner: MachineOwner::Session(Id::new(at, chance)) };
        let objects = env.durable_object("SCRIPTED")?;
        let stub = objects.get_by_name(&format!("{}/{}", machine.workspace, machine.owner))?;
        Ok(Self { machines: Machines::new(objects, Internet::Closed), stub, machine })
    }

    /// Tells the container what to do next; answers how often it was started and how often the actor looked.
    async fn tell(&self, words: &str) -> std::result::Result<(u32, u32), Finding> {
        let finding = |error: Error| Finding(error.to_string());
        let url = format!("http://machine/script/{words}");
        self.stub.fetch_with_str(&url).await.map_err(finding)?.json().await.map_err(finding)
    }

    async fn start(&self, epoch: Epoch) -> PortResult<()> {
        let key = Secret::new("key".to_owned());
        let boot = Boot {
            protocol: wire::PROTOCOL,
            machine: "scripted".to_owned(),
            epoch,
            key,
            ssh_host_seed: Secret::new(String::new()),
            hostname: "scripted".to_owned(),
            roots: vec!["/workspace".to_owned()],
            home: "/home/flare".to_owned(),
            env: BTreeMap::new(),
            on_start: None,
            egress: None,
            path: Vec::new(),
            run: run_folder(),
        };
        let limits = Limits { cpu_millis: 1000, memory: 1 << 30, disk: 1 << 30, pids: 100 };
        let spec = MachineSpec {
            machine: self.machine,
            epoch,
            hostname: "scripted".to_owned(),
            base: "default".to_owned(),
            layer: None,
            disk: DiskPlan::Keep,
            limits,
            boot,
        };
        self.machines.start(spec).await.map(drop)
    }

    async fn alive(&self) -> PortResult<Option<(Epoch, bool)>> {
        Ok(self.machines.inspect(self.machine).await?.map(|status| (status.epoch, status.alive)))
    }

    /// Waits until the actor has looked as often.
    async fn looked(&self, times: u32) -> std::result::Result<(), Finding> {
        for _ in 0..600 {
            if self.tell("seen").await?.1 >= times {
                return Ok(());
            }
            js(Delay::from(Duration::from_millis(50))).await;
        }
        Err(Finding(format!("the actor did not look {times} times")))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "callers have values")]
fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T, what: &str) -> Verdict {
    if found == expected { Ok(()) } else { Err(Finding(format!("{what}: {found:?}, expected {expected:?}"))) }
}

/// Runs a case; none where there is none.
pub(crate) async fn run(name: &str, env: &Env, seed: u64) -> Result<Option<Verdict>> {
    let Some(index) = CASES.iter().position(|case| *case == name) else { return Ok(None) };
    let bench = Bench::new(env, seed)?;
    Ok(Some(match index {
        0 => refused(&bench).await,
        1 => refused_for_good(&bench).await,
        2 => port_hangs(&bench).await,
        3 => call_hangs(&bench).await,
        4 => dies(&bench).await,
        _ => stops(&bench).await,
    }))
}

async fn refused(bench: &Bench) -> Verdict {
    bench.tell("starts/There%20is%20no%20container%20instance%20that%20can%20be%20provided").await?;
    let outcome = bench.start(1).await.map_err(|error| error.kind());
    same(outcome, Err(ErrorKind::Unavailable), "without room it is tried again later")?;
    same(bench.alive().await?, Some((1, false)), "the life that did not begin")?;
    // The same order again, as its caller's retry gives it.
    bench.start(1).await?;
    same(bench.alive().await?, Some((1, true)), "the life that began")?;
    bench.start(1).await?;
    same(bench.tell("seen").await?.0, 1, "an order twice is one start")
}

async fn refused_for_good(bench: &Bench) -> Verdict {
    bench.tell("starts/no%20such%20image").await?;
    match bench.start(1).await {
        Err(error) if error.kind() == ErrorKind::Internal && error.to_string().contains("no such image") => {
            Ok(())
        }
        other => Err(Finding(format!("a start that cannot be: {other:?}"))),
    }
}

async fn port_hangs(bench: &Bench) -> Verdict {
    bench.tell("calls/hangs").await?;
    bench.tell("calls/the%20container%20is%20not%20listening").await?;
    bench.start(1).await?;
    same(bench.alive().await?, Some((1, true)), "a port that listens later")
}

async fn call_hangs(bench: &Bench) -> Verdict {
    bench.start(1).await?;
    bench.tell("calls/hangs").await?;
    let target = AgentTarget { machine: bench.machine, epoch: 1, key: Secret::new("key".to_owned()) };
    let call =
        http::Request::get("/ready").body(Body::empty()).map_err(|error| Finding(error.to_string()))?;
    let outcome = bench.machines.send(&target, call, Duration::from_millis(300)).await.map(|_| ());
    same(outcome.map_err(|error| error.kind()), Err(ErrorKind::Timeout), "a call without an answer")?;
    let call =
        http::Request::get("/ready").body(Body::empty()).map_err(|error| Finding(error.to_string()))?;
    let answer = bench.machines.send(&target, call, Duration::from_secs(30)).await?;
    same(answer.status().as_u16(), 200, "the next call")
}

async fn dies(bench: &Bench) -> Verdict {
    bench.start(1).await?;
    bench.tell("dies").await?;
    bench.looked(1).await?;
    same(bench.alive().await?, Some((1, false)), "what ended by itself")?;
    let stopped = bench.machines.stop(bench.machine, 1, Duration::ZERO).await?;
    same(stopped, Stopped::Killed, "how it ended")?;
    let again = bench.machines.stop(bench.machine, 1, Duration::ZERO).await?;
    same(again, Stopped::Absent, "a second stop")?;
    bench.start(2).await?;
    same(bench.alive().await?, Some((2, true)), "the next life")?;
    same(bench.tell("seen").await?, (2, 1), "starts and looks")
}

async fn stops(bench: &Bench) -> Verdict {
    bench.start(3).await?;
    same(
        bench.machines.stop(bench.machine, 3, Duration::ZERO).await?,
        Stopped::Killed,
        "a stop without grace",
    )?;
    same(bench.alive().await?, Some((3, false)), "what was stopped")?;
    let stale = bench.start(2).await.map_err(|error| error.kind());
    same(stale, Err(ErrorKind::Stale), "an order of an earlier life")?;
    bench.machines.destroy(bench.machine, 3).await?;
    same(bench.alive().await?, None, "what was removed")?;
    let late = bench.start(2).await.map_err(|error| error.kind());
    same(late, Err(ErrorKind::Stale), "an order that comes after the removal")?;
    // Nobody is rung for an end that was asked for.
    same(bench.tell("seen").await?, (1, 0), "starts and looks")
}
