use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Finding, Verdict, cases, ensure, same};
use crate::blob::{BlobKey, Blobs};
use crate::error::{ErrorKind, PortResult};
use crate::id::Id;
use crate::machine::{
    AgentLink, AgentTarget, DiskPlan, DiskState, Epoch, LayerRef, Limits, MachineKey, MachineOwner,
    MachineRuntime, MachineSpec, MachineStatus, Stopped,
};
use crate::secret::Secret;
use crate::stream::Body;
use crate::time::Timestamp;
use crate::wire::frame::Decoder;
use crate::wire::tree::Summary;
use crate::wire::{Boot, ExecOutput, ExecRequest, PROTOCOL, Ready, Shutdown, run_folder};

/// A runtime whose machines have a shell and the usual small programs, and whose server can end.
#[async_trait]
pub trait MachineBench: Send + Sync + 'static {
    /// The runtime.
    fn runtime(&self) -> Arc<dyn MachineRuntime>;
    /// What carries calls to its machines.
    fn agents(&self) -> Arc<dyn AgentLink>;
    /// Where layers come from.
    fn blobs(&self) -> Arc<dyn Blobs>;
    /// From now on the runtime is another server's, which finds what the one before left.
    async fn reopen(&self);
    /// A moment, until something may have changed.
    async fn pause(&self);
}

cases! {
    /// The cases of the machine runtime. Each needs a runtime of its own.
    MACHINE_CASES: dyn MachineBench, tests machine_tests, dollar $,
    {
        lives::{
            a_machine_answers_and_ends_cleanly,
            a_machine_that_nobody_asked_to_end_is_killed,
            a_second_start_of_the_same_life_finds_it,
            operations_of_an_earlier_life_are_stale,
            a_base_that_nobody_knows_is_refused,
            a_new_life_ends_the_one_before,
            a_machine_outlives_its_server,
            machines_are_listed_in_order,
            what_is_destroyed_is_not_known_any_more,
        }
        disks::{
            a_disk_is_kept_once_sealed_also_after_a_kill,
            a_disk_that_was_never_sealed_does_not_count,
            a_fresh_disk_replaces_the_old_one_when_sealed,
            a_layer_lies_under_a_fresh_disk,
        }
    }
}

const KEY: &str = "a key that is long enough for everybody";
/// For one call.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between asking an agent to end and killing it.
const GRACE: Duration = Duration::from_secs(30);
/// Looks at an agent that does not answer yet.
const LOOKS: u32 = 3000;

/// One machine at work.
struct Trial {
    bench: Arc<dyn MachineBench>,
    machine: MachineKey,
}

fn key(seed: u64, number: u8) -> MachineKey {
    let mut random = [number; 10];
    random[1..9].copy_from_slice(&seed.to_be_bytes());
    let now = Timestamp::from_millis(1_700_000_000_000 + i64::from(number));
    MachineKey { workspace: Id::new(now, random), owner: MachineOwner::Session(Id::new(now, random)) }
}

fn spec(machine: MachineKey, epoch: Epoch) -> MachineSpec {
    MachineSpec {
        machine,
        epoch,
        hostname: "trial".to_owned(),
        base: "default".to_owned(),
        layer: None,
        disk: DiskPlan::Keep,
        limits: Limits { cpu_millis: 2000, memory: 512 << 20, disk: 1 << 30, pids: 200 },
        boot: Boot {
            protocol: PROTOCOL,
            machine: machine.owner.to_string(),
            epoch,
            key: Secret::new(KEY.to_owned()),
            ssh_host_seed: Secret::new("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()),
            hostname: "trial".to_owned(),
            roots: vec!["/workspace".to_owned(), "/home/flare".to_owned()],
            home: "/home/flare".to_owned(),
            env: BTreeMap::new(),
            on_start: None,
            egress: None,
            path: Vec::new(),
            run: run_folder(),
        },
    }
}

fn target(machine: MachineKey, epoch: Epoch) -> AgentTarget {
    AgentTarget { machine, epoch, key: Secret::new(KEY.to_owned()) }
}

fn get(path: &str) -> Result<http::Request<Body>, Finding> {
    http::Request::get(path).body(Body::empty()).map_err(|error| Finding(error.to_string()))
}

fn post<T: serde::Serialize>(path: &str, message: &T) -> Result<http::Request<Body>, Finding> {
    let body = serde_json::to_vec(message).map_err(|error| Finding(error.to_string()))?;
    http::Request::post(path).body(Body::Full(body.into())).map_err(|error| Finding(error.to_string()))
}

fn kind<T>(outcome: PortResult<T>) -> Option<ErrorKind> {
    outcome.err().map(|error| error.kind())
}

impl Trial {
    fn new(bench: &Arc<dyn MachineBench>, seed: u64) -> Self {
        Self { bench: Arc::clone(bench), machine: key(seed, 1) }
    }

    fn runtime(&self) -> Arc<dyn MachineRuntime> {
        self.bench.runtime()
    }

    /// Starts a life and waits until it answers.
    async fn start(&self, epoch: Epoch) -> Result<DiskState, Finding> {
        self.start_as(spec(self.machine, epoch)).await
    }

    async fn start_as(&self, spec: MachineSpec) -> Result<DiskState, Finding> {
        let epoch = spec.epoch;
        let started = self.runtime().start(spec).await?;
        let ready = self.ready(epoch).await?;
        same!((ready.epoch, ready.machine), (epoch, self.machine.owner.to_string()), "who answers");
        Ok(started.disk)
    }

    async fn ready(&self, epoch: Epoch) -> Result<Ready, Finding> {
        let mut last = None;
        for _ in 0..LOOKS {
            match self.call(epoch, get("/ready")?).await {
                Ok((status, body)) => {
                    same!(status, 200, "the status of /ready");
                    return serde_json::from_slice(&body).map_err(|error| Finding(error.to_string()));
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => last = Some(error),
                Err(error) => return Err(error.into()),
            }
            self.bench.pause().await;
        }
        Err(Finding(format!("the agent never answered: {last:?}")))
    }

    async fn call(&self, epoch: Epoch, request: http::Request<Body>) -> PortResult<(u16, Vec<u8>)> {
        let reply = self.bench.agents().send(&target(self.machine, epoch), request, DEADLINE).await?;
        let status = reply.status().as_u16();
        Ok((status, reply.into_body().collect(64 << 20, "case").await?.to_vec()))
    }

    /// Runs a shell line inside; answers what it printed.
    async fn shell(&self, epoch: Epoch, line: &str) -> Result<String, Finding> {
        let argv = ["sh", "-c", line].map(str::to_owned).to_vec();
        let wanted = ExecRequest { argv, ..ExecRequest::default() };
        let (status, body) = self.call(epoch, post("/v1/exec", &wanted)?).await?;
        ensure!(status == 200, "{line}: {status} {}", String::from_utf8_lossy(&body));
        let (mut printed, mut all) = (String::new(), String::new());
        for text in body.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
            match serde_json::from_slice(text).map_err(|error| Finding(error.to_string()))? {
                ExecOutput::Stdout(text) => printed.push_str(&text),
                ExecOutput::Exit(0) => return Ok(printed.trim_end().to_owned()),
                other => all.push_str(&format!("{other:?} ")),
            }
        }
        Err(Finding(format!("{line}: {all}{printed}")))
    }

    async fn shut_down(&self, epoch: Epoch) -> Verdict {
        let (status, body) = self.call(epoch, post("/v1/shutdown", &Shutdown { grace_ms: 1000 })?).await?;
        ensure!(status == 204, "shutdown: {status} {}", String::from_utf8_lossy(&body));
        Ok(())
    }

    async fn status(&self) -> Result<Option<MachineStatus>, Finding> {
        Ok(self.runtime().inspect(self.machine).await?)
    }

    async fn stop(&self, epoch: Epoch, grace: Duration) -> Result<Stopped, Finding> {
        Ok(self.runtime().stop(self.machine, epoch, grace).await?)
    }

    /// Captures the roots and stores them as a layer.
    async fn capture(&self, epoch: Epoch, blob: &str) -> Result<LayerRef, Finding> {
        let (status, framed) = self.call(epoch, get("/v1/tree")?).await?;
        same!(status, 200, "the status of a capture");
        let broken = |error: String| Finding(format!("a capture: {error}"));
        let mut decoder = Decoder::default();
        let archive = decoder.push(&framed).map_err(|error| broken(error.to_string()))?.concat();
        let trailer = decoder.finish().map_err(|error| broken(error.to_string()))?;
        let summary: Summary = serde_json::from_slice(&trailer).map_err(|error| broken(error.to_string()))?;
        let blob: BlobKey = blob.parse().map_err(|_| Finding(format!("no key: {blob}")))?;
        let size = archive.len() as u64;
        self.bench.blobs().put(&blob, Body::Full(archive.into()), size).await?;
        Ok(LayerRef { digest: summary.digest, blob, size, files: summary.files })
    }

    /// Leaves nothing running.
    async fn end(&self) -> Verdict {
        let epoch = self.status().await?.map_or(0, |status| status.epoch);
        Ok(self.runtime().destroy(self.machine, epoch).await?)
    }
}

mod lives {
    use super::*;

    pub(super) async fn a_machine_answers_and_ends_cleanly(
        bench: Arc<dyn MachineBench>,
        seed: u64,
    ) -> Verdict {
        let trial = Trial::new(&bench, seed);
        same!(trial.status().await?, None, "what is known before");
        same!(trial.stop(1, Duration::ZERO).await?, Stopped::Absent, "the end of nothing");
        same!(trial.start(1).await?, DiskState::Fresh, "the first disk");
        let seen =
            trial.shell(1, "id -u; id -g; hostname; cd; pwd; cat /proc/self/status | grep CapEff").await?;
        same!(seen, "1000\n1000\ntrial\n/home/flare\nCapEff:\t0000000000000000", "who is inside");
        let status = trial.status().await?;
        let wanted = MachineStatus { machine: trial.machine, epoch: 1, alive: true, disk_whole: false };
        same!(status, Some(wanted), "what is known of it");
        trial.shut_down(1).await?;
        same!(trial.stop(1, GRACE).await?, Stopped::Clean, "the end that was asked for");
        same!(trial.stop(1, Duration::ZERO).await?, Stopped::Absent, "the end once more");
        same!(
            kind(trial.call(1, get("/ready")?).await),
            Some(ErrorKind::Unavailable),
            "who answers afterwards"
        );
        trial.end().await
    }

    pub(super) async fn a_machine_that_nobody_asked_to_end_is_killed(
        bench: Arc<dyn MachineBench>,
        seed: u64,
    ) -> Verdict {
        let trial = Trial::new(&bench, seed);
        trial.start(1).await?;
        same!(trial.stop(1, Duration::from_millis(50)).await?, Stopped::Killed, "how it ended");
        same!(trial.status().await?.map(|status| status.alive), Some(false), "whether it lives");
        trial.end().await
    }

    pub(super) async fn a_second_start_of_the_same_life_finds_it(
        bench: Arc<dyn MachineBench>,
        seed: u64,
    ) -> Verdict {
        let trial = Trial::new(&bench, seed);
        trial.start(1).await?;
        trial.shell(1, "echo here > /tmp/mark").await?;
        same!(trial.start(1).await?, DiskState::Fresh, "the disk, said again");
        same!(trial.shell(1, "cat /tmp/mark").await?, "here", "what is in it");
        trial.end().await
    }

    pub(super) async fn operations_of_an_earlier_life_are_stale(
        bench: Arc<dyn MachineBench>,
        seed: u64,
    ) -> Verdict {
        let trial = Trial::new(&bench, seed);
        trial.start(5).await?;
        let (runtime, machine) = (trial.runtime(), trial.machine);
        let stale = Some(ErrorKind::Stale);
        same!(kind(runtime.start(spec(machine, 4)).await), stale, "start");
        same!(kind(runtime.seal(machine, 4).await), stale, "seal");
        same!(kind(runtime.stop(machine, 4, Duration::ZERO).await), stale, "stop");
        same!(kind(runtime.destroy(machine, 4).await), stale, "destroy");
        same!(trial.status().await?.map(|status| status.alive), Some(true), "whether it lives");
        trial.end().await
    }

    pub(super) async fn a_base_that_nobody_knows_is_refused(
        bench: Arc<dyn MachineBench>,
        seed: u64,
    ) -> Verdict {
        let trial = Trial::new(&bench, seed);
        let mut other = spec(trial.machine, 1);
        "another".clone_into(&mut other.base);
        same!(kind(trial.runtime().start(other).await), Some(ErrorKind::Invalid), "the answer");
        let mut other = spec(trial.machine, 1);
        "no name".clone_into(&mut other.hostname);
        same!(
            kind(trial.runtime().start(other).await),
            Some(ErrorKind::Invalid),
            "a host's name that is none"
        );
        trial.end().await
    }

    pub(super) async fn a_new_life_ends_the_one_before(bench: Arc<dyn MachineBench>, seed: u64) -> Verdict {
        let trial = Trial::new(&bench, seed);
        trial.start(1).await?;
        trial.shell(1, "echo here > /tmp/mark").await?;
        trial.start(2).await?;
        same!(trial.shell(2, "ls /tmp").await?, "", "what is left of the life before");
        same!(trial.call(1, get("/ready")?).await.map(|(status, _)| status).ok(), Some(409), "the old epoch");
        trial.end().await
    }

    pub(super) async fn a_machine_outlives_its_server(bench: Arc<dyn MachineBench>, seed: u64) -> Verdict {
        let trial = Trial::new(&bench, seed);
        trial.start(3).await?;
        trial.shell(3, "echo here > /tmp/mark").await?;
        bench.reopen().await;
        same!(
            trial.status().await?.map(|status| (status.epoch, status.alive)),
            Some((3, true)),
            "the status"
        );
        same!(trial.shell(3, "cat /tmp/mark").await?, "here", "what is in it");
        same!(trial.start(3).await?, DiskState::Fresh, "the disk, said again");
        trial.shut_down(3).await?;
        same!(trial.stop(3, GRACE).await?, Stopped::Clean, "its end");
        bench.reopen().await;
        same!(trial.status().await?.map(|status| status.alive), Some(false), "whether it lives");
        trial.end().await
    }

    pub(super) async fn machines_are_listed_in_order(bench: Arc<dyn MachineBench>, seed: u64) -> Verdict {
        let trials: Vec<Trial> = [1, 2, 3]
            .map(|number| Trial { bench: Arc::clone(&bench), machine: key(seed, number) })
            .into_iter()
            .collect();
        let mut wanted = Vec::new();
        for trial in &trials {
            trial.start(1).await?;
            wanted.push(trial.machine);
        }
        let [first, second, ..] = trials.as_slice() else {
            return Err(Finding("no machines".to_owned()));
        };
        second.stop(1, Duration::ZERO).await?;
        let all = bench.runtime().list(None, 200).await?;
        same!(all.iter().map(|status| status.machine).collect::<Vec<_>>(), wanted, "all");
        same!(all.iter().map(|status| status.alive).collect::<Vec<_>>(), [true, false, true], "which live");
        let page = bench.runtime().list(Some(first.machine.owner), 1).await?;
        same!(page.iter().map(|status| status.machine).collect::<Vec<_>>(), [second.machine], "a page");
        for trial in &trials {
            trial.end().await?;
        }
        same!(bench.runtime().list(None, 200).await?, [], "what is left");
        Ok(())
    }

    pub(super) async fn what_is_destroyed_is_not_known_any_more(
        bench: Arc<dyn MachineBench>,
        seed: u64,
    ) -> Verdict {
        let trial = Trial::new(&bench, seed);
        trial.start(1).await?;
        trial.shell(1, "mkdir -p d/e; chmod 0 d; ln -s /etc l; chmod 0 /workspace /home/flare").await?;
        trial.runtime().destroy(trial.machine, 1).await?;
        same!(trial.status().await?, None, "what is known of it");
        trial.runtime().destroy(trial.machine, 1).await?;
        same!(trial.start(1).await?, DiskState::Fresh, "the disk of a machine that is new again");
        same!(
            trial.shell(1, "ls -A /workspace /home/flare").await?,
            "/home/flare:\n\n/workspace:",
            "its files"
        );
        trial.end().await
    }
}

mod disks {
    use super::*;

    pub(super) async fn a_disk_is_kept_once_sealed_also_after_a_kill(
        bench: Arc<dyn MachineBench>,
        seed: u64,
    ) -> Verdict {
        let trial = Trial::new(&bench, seed);
        trial.start(2).await?;
        trial.runtime().seal(trial.machine, 2).await?;
        trial
            .shell(2, "echo two > /workspace/f; mkdir -m 0 /workspace/closed; ln -s /nowhere /home/flare/l")
            .await?;
        same!(trial.stop(2, Duration::ZERO).await?, Stopped::Killed, "how it ended");
        same!(trial.status().await?.map(|status| status.disk_whole), Some(true), "whether its disk is whole");
        bench.reopen().await;
        same!(trial.start(3).await?, DiskState::Kept, "the disk");
        let seen = trial
            .shell(3, "cat /workspace/f; stat -c '%a %u' /workspace/closed; readlink /home/flare/l")
            .await?;
        same!(seen, "two\n0 1000\n/nowhere", "what is on it");
        same!(trial.start(3).await?, DiskState::Kept, "the same answer for the same life");
        trial.end().await
    }

    pub(super) async fn a_disk_that_was_never_sealed_does_not_count(
        bench: Arc<dyn MachineBench>,
        seed: u64,
    ) -> Verdict {
        let trial = Trial::new(&bench, seed);
        trial.start(1).await?;
        trial.shell(1, "echo one > /workspace/f; echo h > /home/flare/h").await?;
        trial.stop(1, Duration::ZERO).await?;
        same!(trial.start(2).await?, DiskState::Fresh, "the next disk");
        same!(
            trial.shell(2, "ls /workspace /home/flare").await?,
            "/home/flare:\n\n/workspace:",
            "what is on it"
        );
        trial.end().await
    }

    pub(super) async fn a_fresh_disk_replaces_the_old_one_when_sealed(
        bench: Arc<dyn MachineBench>,
        seed: u64,
    ) -> Verdict {
        let trial = Trial::new(&bench, seed);
        let fresh = |epoch| MachineSpec { disk: DiskPlan::Fresh, ..spec(trial.machine, epoch) };
        trial.start(1).await?;
        trial.runtime().seal(trial.machine, 1).await?;
        trial.shell(1, "echo old > /workspace/f").await?;
        same!(trial.start_as(fresh(2)).await?, DiskState::Fresh, "the second disk");
        same!(trial.shell(2, "ls /workspace").await?, "", "what is on it");
        // What was not sealed is not continued on.
        same!(trial.start(3).await?, DiskState::Kept, "the third disk");
        same!(trial.shell(3, "cat /workspace/f").await?, "old", "what is on it");
        trial.start_as(fresh(4)).await?;
        trial.shell(4, "echo new > /workspace/f").await?;
        same!(kind(trial.runtime().seal(trial.machine, 3).await), Some(ErrorKind::Stale), "the wrong life");
        trial.runtime().seal(trial.machine, 4).await?;
        trial.runtime().seal(trial.machine, 4).await?;
        same!(trial.start(5).await?, DiskState::Kept, "the fifth disk");
        same!(trial.shell(5, "cat /workspace/f").await?, "new", "what is on it");
        trial.end().await
    }

    pub(super) async fn a_layer_lies_under_a_fresh_disk(bench: Arc<dyn MachineBench>, seed: u64) -> Verdict {
        let trial = Trial::new(&bench, seed);
        trial.start(1).await?;
        trial.shell(1, "mkdir d; echo built > d/f; chmod 751 d; echo rc > ~/.rc; ln -s d l").await?;
        let layer = trial.capture(1, &format!("case/{seed:x}/layer")).await?;
        let above = |epoch| MachineSpec { layer: Some(layer.clone()), ..spec(trial.machine, epoch) };
        bench.runtime().prepare(&layer).await?;
        same!(trial.start_as(above(2)).await?, DiskState::Fresh, "the disk above the layer");
        let look = "cat l/f ~/.rc; stat -c %a d";
        same!(trial.shell(2, look).await?, "built\nrc\n751", "the layer");
        trial.runtime().seal(trial.machine, 2).await?;
        trial.shell(2, "rm d/f; echo mine > m").await?;
        trial.stop(2, Duration::ZERO).await?;
        same!(trial.start_as(above(3)).await?, DiskState::Kept, "the disk, later");
        same!(trial.shell(3, "ls d; cat m").await?, "mine", "changes above it");
        trial.stop(3, Duration::ZERO).await?;
        let wrong = LayerRef { digest: "0".repeat(64), ..layer.clone() };
        let wrong = MachineSpec { layer: Some(wrong), disk: DiskPlan::Fresh, ..spec(trial.machine, 4) };
        same!(
            kind(trial.runtime().start(wrong).await),
            Some(ErrorKind::Corrupt),
            "another tree than was said"
        );
        same!(trial.status().await?.map(|status| status.alive), Some(false), "whether that one lives");
        trial.end().await
    }
}
