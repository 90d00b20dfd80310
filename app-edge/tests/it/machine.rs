//! Machines that are none: they start at once, every command says `ok`, and SSH echoes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::{
    AgentLink, AgentTarget, DiskPlan, DiskState, Enforcement, Epoch, Isolation, LayerRef, MachineKey,
    MachineOwner, MachineRuntime, MachineSpec, MachineStatus, RuntimeProfile, Started, Stopped,
};
use burstflare_ports::stream::Body;
use burstflare_ports::wire::files::{ArchiveReceived, Found};
use burstflare_ports::wire::port::APP_ANSWER_HEADER;
use burstflare_ports::wire::terminal::{Terminal, Terminals, USUAL};
use burstflare_ports::wire::tree::{FORMAT, Summary};
use burstflare_ports::wire::{
    Activity, EPOCH_HEADER, Metrics, MetricsSource, PROTOCOL, Ready, Reason, Refusal, SSH_KEY_HEADER, frame,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[derive(Default)]
pub(crate) struct Scripted {
    lives: Mutex<HashMap<MachineKey, MachineStatus>>,
    /// What machines were told of secrets.
    told: Mutex<Vec<serde_json::Value>>,
}

impl Scripted {
    /// What machines were told of secrets, in order.
    pub(crate) fn told(&self) -> Vec<serde_json::Value> {
        self.told.lock().expect("no panic").clone()
    }

    fn change(&self, machine: MachineKey, change: impl FnOnce(&mut MachineStatus)) {
        if let Some(status) = self.lives.lock().expect("no panic").get_mut(&machine) {
            change(status);
        }
    }
}

#[async_trait]
impl MachineRuntime for Scripted {
    fn profile(&self) -> RuntimeProfile {
        RuntimeProfile {
            name: "scripted".to_owned(),
            isolation: Isolation::Sandbox,
            network: "proxy".to_owned(),
            limits: BTreeMap::from([
                ("cpu".to_owned(), Enforcement::Enforced),
                ("memory".to_owned(), Enforcement::Enforced),
                ("disk".to_owned(), Enforcement::Watched),
                ("pids".to_owned(), Enforcement::None),
            ]),
            warnings: Vec::new(),
        }
    }

    async fn start(&self, spec: MachineSpec) -> PortResult<Started> {
        let disk =
            if spec.disk == DiskPlan::Keep && spec.epoch > 1 { DiskState::Kept } else { DiskState::Fresh };
        let MachineSpec { machine, epoch, .. } = spec;
        let status = MachineStatus { machine, epoch, alive: true, disk_whole: disk == DiskState::Kept };
        self.lives.lock().expect("no panic").insert(machine, status);
        Ok(Started { disk })
    }

    async fn inspect(&self, machine: MachineKey) -> PortResult<Option<MachineStatus>> {
        Ok(self.lives.lock().expect("no panic").get(&machine).copied())
    }

    async fn seal(&self, machine: MachineKey, _epoch: Epoch) -> PortResult<()> {
        self.change(machine, |status| status.disk_whole = true);
        Ok(())
    }

    async fn stop(&self, machine: MachineKey, _epoch: Epoch, _grace: Duration) -> PortResult<Stopped> {
        self.change(machine, |status| status.alive = false);
        Ok(Stopped::Clean)
    }

    async fn destroy(&self, machine: MachineKey, _epoch: Epoch) -> PortResult<()> {
        self.lives.lock().expect("no panic").remove(&machine);
        Ok(())
    }

    async fn list(&self, _after: Option<MachineOwner>, _limit: usize) -> PortResult<Vec<MachineStatus>> {
        Ok(Vec::new())
    }

    async fn prepare(&self, _layer: &LayerRef) -> PortResult<()> {
        Ok(())
    }
}

#[async_trait]
impl AgentLink for Scripted {
    async fn send(
        &self,
        target: &AgentTarget,
        request: Request<Body>,
        _deadline: Duration,
    ) -> PortResult<Response<Body>> {
        let (head, body) = request.into_parts();
        let answer = match (head.method.as_str(), head.uri.path()) {
            ("GET", "/ready") => json(&Ready {
                protocol: PROTOCOL,
                oldest_protocol: PROTOCOL,
                capabilities: Vec::new(),
                machine: target.machine.owner.to_string(),
                epoch: target.epoch,
                ssh_host_key: "ssh-ed25519 AAAA".to_owned(),
                uptime_ms: 1,
            }),
            ("PUT", "/v1/bundle" | "/v1/tree") => {
                body.into_stream().try_for_each(|_| async { Ok(()) }).await?;
                json(&summary(b""))
            }
            ("PUT", "/v1/secrets") => {
                let bytes = body.collect(16 << 20, "agent").await?;
                let told = serde_json::from_slice(&bytes).expect("JSON");
                self.told.lock().expect("no panic").push(told);
                Response::new(Body::empty())
            }
            ("POST", "/v1/exec") => {
                let said = Bytes::from_static(b"{\"stdout\":\"ok\\n\"}\n");
                let asked = body.collect(1 << 20, "exec").await?;
                let ending = futures_util::stream::iter([Ok(Bytes::from_static(b"{\"exit\":0}\n"))]);
                let begun = futures_util::stream::iter([Ok(said)]);
                Response::new(Body::Stream(if asked.windows(7).any(|word| word == b"endless") {
                    Box::pin(begun.chain(futures_util::stream::pending()))
                } else {
                    Box::pin(begun.chain(ending))
                }))
            }
            ("GET", "/v1/tree") => {
                let archive = Bytes::from_static(b"a tree");
                let trailer = serde_json::to_vec(&summary(&archive)).expect("a summary");
                let mut framed = BytesMut::from(&frame::encode(&archive)[..]);
                framed.extend_from_slice(&frame::encode_trailer(&trailer));
                Response::new(Body::Full(framed.freeze()))
            }
            (_, "/v1/files") => {
                body.into_stream().try_for_each(|_| async { Ok(()) }).await?;
                crate::files::answer(&head)
            }
            ("GET", "/v1/archive") => Response::new(Body::Full(Bytes::from_static(b"a tar"))),
            ("PUT", "/v1/archive") => {
                body.into_stream().try_for_each(|_| async { Ok(()) }).await?;
                json(&ArchiveReceived { entries: 1, bytes: 1, skipped: 0, why: Vec::new() })
            }
            ("GET", "/v1/metrics") => json(&Metrics {
                source: MetricsSource::Processes,
                cpu_ms: 5,
                cpu_millicores: 250,
                memory: 1 << 20,
                disk: 2 << 20,
                disk_complete: true,
                processes: 3,
                uptime_ms: 4,
                activity: Activity {
                    last_active_ms_ago: 6,
                    reason: Reason::Exec,
                    busy: Vec::new(),
                    cpu_ms: 5,
                    mark: 0,
                    ending: false,
                },
            }),
            ("GET", "/v1/search") => json(&Found { items: Vec::new(), looked_at: 1, cut: None }),
            ("GET", "/v1/ports") => json(&crate::application::ports()),
            ("GET", "/v1/ports/watch") => {
                let mut line = serde_json::to_vec(&crate::application::ports()).expect("a message");
                line.push(b'\n');
                Response::new(Body::Stream(Box::pin(
                    futures_util::stream::once(async { Ok(Bytes::from(line)) })
                        .chain(futures_util::stream::pending()),
                )))
            }
            ("GET", "/v1/ports/3000/http/socket") => {
                let mut answer = echo(&head.headers).await?;
                answer.headers_mut().insert(APP_ANSWER_HEADER, HeaderValue::from_static("1"));
                return Ok(answer);
            }
            (_, path) if path.starts_with("/v1/ports/3000/http/") => {
                return crate::application::answer(head, body).await;
            }
            ("GET", "/v1/terminals") => json(&Terminals { items: vec![terminal()] }),
            ("POST", "/v1/terminals") => json(&terminal()),
            ("GET", "/v1/terminals/1/view") => return echo(&head.headers).await,
            (_, path) if path.starts_with("/v1/terminals/") && path != "/v1/terminals/1" => {
                refuse(StatusCode::NOT_FOUND, "not_found", "There is no such terminal (any more).")
            }
            ("GET", "/v1/ssh") => return echo(&head.headers).await,
            _ => Response::new(Body::empty()),
        };
        Ok(answer)
    }
}

fn summary(archive: &[u8]) -> Summary {
    Summary {
        format: FORMAT,
        digest: "ab".repeat(32),
        files: 1,
        bytes: 1,
        archive_blake3: Some(blake3::hash(archive).to_hex().to_string()),
    }
}

fn terminal() -> Terminal {
    Terminal {
        id: 1,
        argv: vec!["/bin/bash".to_owned()],
        title: "a title".to_owned(),
        size: USUAL,
        viewers: 1,
        age_ms: 5,
        ended: None,
    }
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let mut answer = json(&Refusal { code: code.to_owned(), message: message.to_owned() });
    *answer.status_mut() = status;
    answer
}

fn json<T: serde::Serialize>(value: &T) -> Response<Body> {
    Response::new(Body::Full(serde_json::to_vec(value).expect("a message").into()))
}

/// Upgrades for real and sends back what comes, after a line that tells which key may log in.
async fn echo(headers: &axum::http::HeaderMap) -> PortResult<Response<Body>> {
    let failed = |error: hyper::Error| PortError::new(ErrorKind::Internal, "scripted", error.to_string());
    let (near, mut far) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(far.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("text");
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{SSH_KEY_HEADER}: ")))
            .unwrap_or("no key")
            .to_owned();
        assert!(!head.contains("ticket"), "nothing of the edge's is passed on");
        far.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-accept: yes\r\nflare-secret: inside\r\n\r\n",
        )
        .await
        .expect("room");
        far.write_all(format!("{key}\n").as_bytes()).await.expect("room");
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = far.read(&mut buffer).await {
            far.write_all(&buffer[..count]).await.expect("room");
        }
    });
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(near)).await.map_err(failed)?;
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::get("/v1/ssh").header(header::HOST, "agent").header(EPOCH_HEADER, 1);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(http_body_util::Empty::<Bytes>::new()).expect("a request");
    let mut answer = sender.send_request(request).await.map_err(failed)?;
    let upgrade = hyper::upgrade::on(&mut answer);
    let (head, _) = answer.into_parts();
    let mut response = Response::from_parts(head, Body::empty());
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    response.extensions_mut().insert(upgrade);
    Ok(response)
}
