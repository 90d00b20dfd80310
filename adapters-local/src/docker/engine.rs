//! The engine: the calls that machines need, each with a deadline, each harmless when it is done twice.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerSummaryStateEnum};
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, KillContainerOptions, ListContainersOptions,
    ListVolumesOptions, LogsOptions, RemoveContainerOptions, RemoveVolumeOptions, StartContainerOptions,
    WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{Epoch, IMAGE, MachineKey, MachineOwner};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::labels::{self, Deployment};

/// For one question, and for one small change.
const QUICK: Duration = Duration::from_secs(30);
/// For a container to be made or started, or to be gone, also on a host that is busy.
const SLOW: Duration = Duration::from_secs(120);
/// Between two tries of something that the engine is not done with.
const PAUSE: Duration = Duration::from_millis(20);

/// A connection to the engine. Clones share it.
#[derive(Clone)]
pub(super) struct Engine {
    docker: Docker,
    deployment: Deployment,
    /// What the engine said of itself.
    pub facts: Facts,
}

/// What an engine is able to do.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Its version.
    pub version: String,
    /// Processors it may use.
    pub processors: u64,
    /// Whether it bounds processor time.
    pub cpu: bool,
    /// Whether it bounds memory.
    pub memory: bool,
    /// Whether it bounds memory and swap together.
    pub swap: bool,
    /// Whether it bounds processes.
    pub pids: bool,
}

/// A container of ours.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The engine's id.
    pub id: String,
    /// Whose.
    pub machine: MachineKey,
    /// Which life.
    pub epoch: Epoch,
    /// Whether it runs.
    pub running: bool,
}

/// A volume of ours.
#[derive(Debug, Clone)]
pub(super) struct Volume {
    /// Its name.
    pub name: String,
    /// Whose.
    pub machine: MachineKey,
    /// Which disk.
    pub disk: u64,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its first process runs.
    Running,
    /// It ended with this status.
    Ended(i64),
    /// It was made and never started.
    Never,
}

impl Engine {
    /// Finds the engine, and the version of its API that both sides speak.
    pub(super) async fn connect(socket: &Path, deployment: Deployment) -> PortResult<Self> {
        const OPEN: &str = "docker.open";
        let place = socket.display();
        let silent = |error: Error| {
            PortError::new(
                ErrorKind::Unsupported,
                OPEN,
                format!("no Docker engine answers at {place}: start one, and let this user talk to it (group `docker`)"),
            )
            .with_source(error)
        };
        let path = socket.to_str().ok_or_else(|| {
            PortError::new(ErrorKind::Invalid, OPEN, "the path of the engine's socket is no text")
        })?;
        let docker = Docker::connect_with_unix(path, SLOW.as_secs(), API_DEFAULT_VERSION).map_err(silent)?;
        let answers = async { docker.negotiate_version().await };
        let docker = timeout(QUICK, answers)
            .await
            .map_err(|_| {
                PortError::new(ErrorKind::Timeout, OPEN, format!("the engine at {place} does not answer"))
            })?
            .map_err(silent)?;
        let info = quick(OPEN, docker.info()).await?;
        let facts = Facts {
            version: info.server_version.unwrap_or_default(),
            processors: info.ncpu.and_then(|count| u64::try_from(count).ok()).unwrap_or(1).max(1),
            cpu: info.cpu_cfs_quota.unwrap_or(false),
            memory: info.memory_limit.unwrap_or(false),
            swap: info.swap_limit.unwrap_or(false),
            pids: info.pids_limit.unwrap_or(false),
        };
        Ok(Self { docker, deployment, facts })
    }

    /// Whether an image is there.
    pub(super) async fn has_image(&self, image: &str) -> PortResult<bool> {
        present(quick(IMAGE, self.docker.inspect_image(image)).await).map(|found| found.is_some())
    }

    /// Containers of this deployment, or of one machine.
    pub(super) async fn containers(&self, owner: Option<MachineOwner>) -> PortResult<Vec<Seen>> {
        let filters = Some(self.deployment.filter(owner));
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let all = quick("machine.list", self.docker.list_containers(Some(options))).await?;
        let ours = all.into_iter().filter_map(|found| {
            let labels = found.labels?;
            let running = matches!(
                found.state?,
                ContainerSummaryStateEnum::RUNNING
                    | ContainerSummaryStateEnum::PAUSED
                    | ContainerSummaryStateEnum::RESTARTING
                    | ContainerSummaryStateEnum::STOPPING
            );
            Some(Seen {
                id: found.id?,
                machine: labels::machine(&labels)?,
                epoch: labels::epoch(&labels)?,
                running,
            })
        });
        Ok(ours.collect())
    }

    /// Volumes of this deployment, or of one machine.
    pub(super) async fn volumes(&self, owner: Option<MachineOwner>) -> PortResult<Vec<Volume>> {
        let options = ListVolumesOptions { filters: Some(self.deployment.filter(owner)) };
        let all = quick("machine.list", self.docker.list_volumes(Some(options))).await?;
        let ours = all.volumes.unwrap_or_default().into_iter().filter_map(|found| {
            let (machine, disk) = (labels::machine(&found.labels)?, labels::disk(&found.labels)?);
            Some(Volume { name: found.name, machine, disk })
        });
        Ok(ours.collect())
    }

    /// Makes a container; its volumes are made with it.
    pub(super) async fn create(&self, name: String, body: ContainerCreateBody) -> PortResult<String> {
        const CREATE: &str = "machine.start";
        let image = body.image.clone().unwrap_or_default();
        let options = CreateContainerOptions { name: Some(name), ..CreateContainerOptions::default() };
        let made = timeout(SLOW, self.docker.create_container(Some(options), body)).await;
        match made.map_err(|_| late(CREATE))? {
            Ok(made) => Ok(made.id),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Err(PortError::new(
                ErrorKind::NotFound,
                IMAGE,
                format!(
                    "the image {image} is not on the server's engine: `docker pull {image}` or `docker load` there"
                ),
            )),
            Err(error) => Err(failed(CREATE, error)),
        }
    }

    /// Starts a container and tells it what to do. The message goes through a stream that this process holds: whoever dies
    /// before it is whole leaves no machine, because the agent ends where its input does.
    pub(super) async fn start(&self, id: &str, boot: &[u8]) -> PortResult<()> {
        const START: &str = "machine.start";
        let options =
            AttachContainerOptions { stream: true, stdin: true, ..AttachContainerOptions::default() };
        let mut attached = quick(START, self.docker.attach_container(id, Some(options))).await?;
        let started = self.docker.start_container(id, None::<StartContainerOptions>);
        timeout(SLOW, started).await.map_err(|_| late(START))?.map_err(|error| failed(START, error))?;
        let told = async {
            attached.input.write_all(boot).await?;
            attached.input.shutdown().await
        };
        timeout(QUICK, told).await.map_err(|_| late(START))?.map_err(|error| {
            PortError::new(ErrorKind::Unavailable, START, "the agent ended before it was told what to do")
                .with_source(error)
        })
    }

    /// Where a container is; `None` where there is none.
    pub(super) async fn phase(&self, id: &str) -> PortResult<Option<Phase>> {
        let found = present(quick("machine.inspect", self.docker.inspect_container(id, None)).await)?;
        Ok(found.and_then(|found| found.state).map(|state| {
            if state.running.unwrap_or(false) {
                Phase::Running
            } else if state.status == Some(bollard::models::ContainerStateStatusEnum::CREATED) {
                Phase::Never
            } else {
                Phase::Ended(state.exit_code.unwrap_or(-1))
            }
        }))
    }

    /// Waits until a container has ended, not longer than this.
    pub(super) async fn ended_within(&self, id: &str, patience: Duration) -> PortResult<bool> {
        let until = Instant::now() + patience;
        loop {
            let mut wait = pin!(self.docker.wait_container(id, None::<WaitContainerOptions>));
            match timeout_at(until, wait.next()).await {
                Err(_) => return Ok(false),
                // A status that is not 0 comes as an error, and so does a container that is gone.
                Ok(Some(
                    Ok(_)
                    | Err(
                        Error::DockerContainerWaitError { .. }
                        | Error::DockerResponseServerError { status_code: 404, .. },
                    ),
                )) => return Ok(true),
                Ok(Some(Err(Error::RequestTimeoutError)) | None) => {}
                Ok(Some(Err(error))) => return Err(failed("machine.stop", error)),
            }
            sleep(PAUSE).await;
        }
    }

    /// Kills a container and waits for its end.
    pub(super) async fn kill(&self, id: &str) -> PortResult<()> {
        const KILL: &str = "machine.stop";
        match quick(KILL, self.docker.kill_container(id, None::<KillContainerOptions>)).await {
            // Gone, or ended by itself.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => {}
            outcome => outcome?,
        }
        if self.ended_within(id, SLOW).await? { Ok(()) } else { Err(late(KILL)) }
    }

    /// Ends and removes a container, with the nameless volumes that its image asked for.
    pub(super) async fn remove(&self, id: &str) -> PortResult<()> {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        until_done("machine.destroy", || async {
            quick("machine.destroy", self.docker.remove_container(id, Some(options.clone()))).await
        })
        .await
    }

    /// Removes a volume.
    pub(super) async fn remove_volume(&self, name: &str) -> PortResult<()> {
        until_done("machine.destroy", || async {
            timeout(SLOW, self.docker.remove_volume(name, None::<RemoveVolumeOptions>))
                .await
                .map_err(|_| late("machine.destroy"))?
                .map_err(|error| failed("machine.destroy", error))
        })
        .await
    }

    /// The last lines that the agent wrote.
    pub(super) async fn last_words(&self, id: &str) -> String {
        let options =
            LogsOptions { stdout: true, stderr: true, tail: "5".to_owned(), ..LogsOptions::default() };
        let mut lines = String::new();
        let read = async {
            let mut log = pin!(self.docker.logs(id, Some(options)));
            while let Some(Ok(line)) = log.next().await {
                lines.push_str(&String::from_utf8_lossy(line.as_ref()));
                if lines.len() > 2000 {
                    break;
                }
            }
        };
        // What came until then will do: it only explains.
        let _ = timeout(Duration::from_secs(5), read).await;
        lines.trim_end().to_owned()
    }
}

/// One call with a deadline.
async fn quick<T>(operation: &'static str, call: impl Future<Output = Result<T, Error>>) -> PortResult<T> {
    timeout(QUICK, call).await.map_err(|_| late(operation))?.map_err(|error| failed(operation, error))
}

/// Tries until the thing is gone: the engine refuses (409) while it is still busy with it.
async fn until_done<F>(operation: &'static str, mut call: impl FnMut() -> F) -> PortResult<()>
where
    F: Future<Output = PortResult<()>>,
{
    let until = Instant::now() + SLOW;
    loop {
        match call().await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Conflict && Instant::now() < until => {}
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(late(operation)),
            outcome => return outcome,
        }
        sleep(PAUSE).await;
    }
}

fn present<T>(outcome: PortResult<T>) -> PortResult<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn late(operation: &'static str) -> PortError {
    PortError::new(ErrorKind::Timeout, operation, "the Docker engine did not answer in time")
}

/// Turns an error of the engine into a port's. Its own words are kept: they name what is wrong.
fn failed(operation: &'static str, error: Error) -> PortError {
    let kind = match &error {
        Error::DockerResponseServerError { status_code: 404, .. } => ErrorKind::NotFound,
        Error::DockerResponseServerError { status_code: 409, .. } => ErrorKind::Conflict,
        Error::DockerResponseServerError { status_code: 400, .. } => ErrorKind::Invalid,
        Error::DockerResponseServerError { message, .. } if message.contains("no space left") => {
            ErrorKind::Full
        }
        Error::DockerResponseServerError { .. } => ErrorKind::Internal,
        Error::RequestTimeoutError => ErrorKind::Timeout,
        _ => ErrorKind::Unavailable,
    };
    let text = match &error {
        Error::DockerResponseServerError { message, .. } => format!("the Docker engine: {}", message.trim()),
        _ => "the Docker engine did not answer".to_owned(),
    };
    PortError::new(kind, operation, text).with_source(error)
}
