//! Simulated users: they act at random, several at a time, and note what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burstflare_core::service::{NewSession, Recover, Register};
use burstflare_core::{Caller, ControlPlane, Error, Kind};
use burstflare_ports::id::Id;
use burstflare_ports::record::{Origin, Session, Sharing, Version};
use burstflare_ports::stream::Body;
use bytes::Bytes;

use super::bundle;
use super::fault::SIMULATED;
use super::ledger::{Account, SessionNote, VersionNote, Wish};
use super::world::World;

/// One client of one account.
pub(super) struct Client {
    pub(super) world: World,
    /// Which account of the ledger.
    pub(super) account: usize,
    /// Requests so far.
    pub(super) sent: Arc<AtomicU64>,
}

type Outcome<T> = Result<T, Error>;

impl World {
    /// Registers somebody; whoever does not know whether it worked takes another address.
    pub(super) async fn register(&self) {
        loop {
            let email: burstflare_ports::text::Email =
                format!("user{}@example.com", self.ledger().number()).parse().unwrap();
            let wish = Register { email: email.clone(), code: None };
            let reply = self.call(|plane| async move { plane.register(wish, Origin::default()).await }).await;
            if let Some(Ok(registered)) = reply {
                let ways_back = registered
                    .recovery_codes
                    .into_iter()
                    .map(|code| Recover { email: email.clone(), code })
                    .collect();
                let signed_in = registered.signed_in;
                self.ledger().accounts.push(Account {
                    workspace: signed_in.workspace.id,
                    access: signed_in.tokens.access,
                    ways_back,
                });
                return;
            }
        }
    }
}

impl Client {
    /// Acts so many times. What sends no request is no step.
    pub(super) async fn live(self, steps: usize) {
        let mut left = steps;
        while left > 0 {
            let before = self.sent.load(Ordering::Relaxed);
            self.act().await;
            if self.sent.load(Ordering::Relaxed) > before {
                self.world.ledger().steps += 1;
                left -= 1;
            }
            let pause = match self.world.rng.below(10) {
                0..3 => 0,
                3..9 => 3_000,
                // Long enough to be snapshotted by time, and now and then to be put to sleep.
                _ if self.world.rng.hits(1_500) => 2_000_000,
                _ => 60_000,
            };
            self.world.sleep(self.world.rng.below(pause + 1)).await;
        }
    }

    async fn act(&self) {
        let (templates, uploads, releases, sessions) = {
            let ledger = self.world.ledger();
            let own = ledger.accounts[self.account].workspace;
            (
                ledger.templates.values().filter(|(of, _)| *of == own).count(),
                ledger.versions.values().filter(|v| v.workspace == own && v.uploaded.is_some()).count(),
                ledger.releases.iter().filter(|release| release.workspace == own).count(),
                ledger.sessions.values().filter(|note| note.workspace == own && !note.deleting).count(),
            )
        };
        // The way to a first session is long: half of the time somebody takes the next step on it.
        if self.world.rng.hits(5_000) {
            match (templates, uploads, releases, sessions) {
                (0, ..) => return self.create_template().await,
                (_, 0, ..) => return self.upload().await,
                (_, _, 0, _) => return self.promote().await,
                (.., 0) => return self.create_session().await,
                _ => {}
            }
        }
        match self.world.rng.below(54) {
            0 => self.create_template().await,
            1..4 => self.upload().await,
            4..8 => self.promote().await,
            8 => self.roll_back().await,
            9..11 => self.steer_build().await,
            11..14 => self.create_session().await,
            14..17 => self.wish("start").await,
            17..21 => self.wish("stop").await,
            21 => self.wish("force-stop").await,
            22..24 => self.wish("restart").await,
            24 => self.wish("delete").await,
            25..33 => self.write().await,
            33..36 => self.read().await,
            36 => self.redeem_twice().await,
            37 => self.refresh_twice().await,
            38..40 => self.lose_disk().await,
            40..43 => self.snapshot().await,
            43..45 => self.change_snapshot().await,
            45..48 => self.restore().await,
            48..50 => self.fork().await,
            _ => self.waver().await,
        }
    }

    /// Sends a request as this account. `None` when nobody knows what became of it.
    pub(super) async fn call<T, F, Fut>(&self, action: &'static str, request: F) -> Option<Outcome<T>>
    where
        T: Send + 'static,
        F: FnOnce(ControlPlane, Caller) -> Fut + Send + 'static,
        Fut: Future<Output = Outcome<T>> + Send + 'static,
    {
        let access = self.account().access;
        self.sent.fetch_add(1, Ordering::Relaxed);
        let reply = self
            .world
            .call(|plane| async move {
                let caller = plane.authenticate(access.expose(), Origin::default()).await?;
                request(plane, caller).await
            })
            .await;
        self.world.faults.note(|| match &reply {
            Some(Ok(_)) => format!("user: {action}"),
            Some(Err(error)) => format!("user: {action}: {} {}", error.code, error.message),
            None => format!("user: {action}: unknown"),
        });
        match &reply {
            Some(Ok(_)) => self.world.ledger().count(action),
            Some(Err(error)) if error.kind == Kind::Unauthenticated && error.code == "unauthenticated" => {
                self.come_back().await;
            }
            // What a port calls invalid the control plane should not have asked for.
            Some(Err(error))
                if (error.kind == Kind::Internal
                    || (error.kind == Kind::Invalid && error.source.is_some()))
                    && !is_made_up(error) =>
            {
                self.world.ledger().broken.push(format!("{action} answered a defect: {error:?}"));
            }
            _ => {}
        }
        reply
    }

    pub(super) fn account(&self) -> Account {
        self.world.ledger().accounts[self.account].clone()
    }

    /// The access token has grown old: a recovery code makes a new one, once.
    async fn come_back(&self) {
        let Some(way) = self.world.ledger().accounts[self.account].ways_back.pop() else { return };
        let reply = self.world.call(|plane| async move { plane.recover(way, Origin::default()).await }).await;
        if let Some(Ok(signed_in)) = reply {
            self.world.ledger().accounts[self.account].access = signed_in.tokens.access;
        }
    }

    async fn create_template(&self) {
        let name: burstflare_ports::text::Slug =
            format!("template-{}", self.world.rng.below(4)).parse().unwrap();
        let reply =
            self.call("create template", |plane, caller| async move {
                plane.create_template(&caller, name).await
            })
            .await;
        if let Some(Ok(template)) = reply {
            let note = (template.workspace, template.name.to_string());
            self.world.ledger().templates.insert(template.id, note);
        }
    }

    /// Someone's template of this account: its id as a reference.
    fn some_template(&self) -> Option<String> {
        let own = self.account().workspace;
        let ledger = self.world.ledger();
        let found: Vec<String> =
            ledger.templates.iter().filter(|(_, note)| note.0 == own).map(|(id, _)| id.to_string()).collect();
        self.world.rng.pick(&found).cloned()
    }

    async fn upload(&self) {
        let Some(template) = self.some_template() else { return };
        let number = self.world.ledger().number();
        let label: burstflare_ports::text::Label = format!("1.{number}").parse().unwrap();
        let reference = template.clone();
        let reply = self
            .call("create version", |plane, caller| async move {
                plane.create_version(&caller, &reference, label).await
            })
            .await;
        let Some(Ok(version)) = reply else { return };
        self.world.ledger().versions.insert(
            version.id,
            VersionNote { workspace: version.workspace, template: version.template, uploaded: None },
        );
        let mut setup: Vec<String> =
            (0..self.world.rng.below(3)).map(|step| format!("echo {number} > made-{step}")).collect();
        if self.world.rng.hits(1_000) {
            setup.push("false".to_owned());
        }
        let mark = format!("mark {number}");
        let body = Bytes::from(bundle::pack(&setup, &mark));
        for _ in 0..2 {
            let (template, id, body) = (template.clone(), version.id.to_string(), body.clone());
            let reply = self
                .call("upload", |plane, caller| async move {
                    plane.upload_bundle(&caller, &template, &id, Body::Full(body)).await
                })
                .await;
            if let Some(Ok((version, build))) = reply {
                if let Some(note) = self.world.ledger().versions.get_mut(&version.id) {
                    note.uploaded = Some((build.id, mark.clone()));
                }
                return;
            }
        }
    }

    fn some_version(&self) -> Option<(Id<Version>, String)> {
        let own = self.account().workspace;
        let ledger = self.world.ledger();
        let found: Vec<(Id<Version>, String)> = ledger
            .versions
            .iter()
            .filter(|(_, note)| note.workspace == own)
            .map(|(id, note)| (*id, note.template.to_string()))
            .collect();
        self.world.rng.pick(&found).cloned()
    }

    async fn promote(&self) {
        let Some((version, template)) = self.some_version() else { return };
        let reply = self
            .call("promote", move |plane, caller| async move {
                plane.promote(&caller, &template, &version.to_string()).await
            })
            .await;
        if let Some(Ok(release)) = reply {
            self.world.ledger().releases.push(release);
        }
    }

    async fn roll_back(&self) {
        let Some(template) = self.some_template() else { return };
        let reply = self
            .call("rollback", |plane, caller| async move { plane.roll_back(&caller, &template).await })
            .await;
        if let Some(Ok(release)) = reply {
            self.world.ledger().releases.push(release);
        }
    }

    async fn steer_build(&self) {
        let build = {
            let ledger = self.world.ledger();
            let own = ledger.accounts[self.account].workspace;
            let found: Vec<String> = ledger
                .versions
                .values()
                .filter(|note| note.workspace == own)
                .filter_map(|note| note.uploaded.as_ref().map(|(build, _)| build.to_string()))
                .collect();
            self.world.rng.pick(&found).cloned()
        };
        let Some(build) = build else { return };
        if self.world.rng.hits(7_000) {
            self.call("retry build", |plane, caller| async move { plane.retry_build(&caller, &build).await })
                .await;
        } else {
            self.call(
                "cancel build",
                |plane, caller| async move { plane.cancel_build(&caller, &build).await },
            )
            .await;
        }
    }

    async fn create_session(&self) {
        let Some(template) = self.some_template() else { return };
        let number = self.world.ledger().number();
        let wish = NewSession {
            name: format!("session-{number}").parse().unwrap(),
            template,
            sharing: Sharing::Private,
        };
        let reply = self
            .call("create session", |plane, caller| async move { plane.create_session(&caller, wish).await })
            .await;
        if let Some(Ok(session)) = reply {
            let note = SessionNote {
                workspace: session.workspace,
                deleting: false,
                deleted: false,
                files: super::machines::Files::new(),
                wish: Wish::Run,
                wishing: 0,
                overlapped: false,
                rolls: 0,
                restoring: None,
            };
            self.world.ledger().sessions.insert(session.id, note);
        }
    }

    pub(super) fn some_session(&self) -> Option<Id<Session>> {
        let own = self.account().workspace;
        let ledger = self.world.ledger();
        let found: Vec<Id<Session>> = ledger
            .sessions
            .iter()
            .filter(|(_, note)| note.workspace == own && !note.deleting)
            .map(|(id, _)| *id)
            .collect();
        self.world.rng.pick(&found).copied()
    }

    /// Changes their mind at once: the second wish comes while the first is on its way.
    async fn waver(&self) {
        let Some(id) = self.some_session() else { return };
        for _ in 0..2 {
            let first = *self.world.rng.pick(&["start", "restart", "stop"]).unwrap();
            let second = *self.world.rng.pick(&["stop", "start", "force-stop"]).unwrap();
            self.wish_for(id, first).await;
            self.world.sleep(self.world.rng.below(800)).await;
            self.wish_for(id, second).await;
            self.world.sleep(self.world.rng.below(2_000)).await;
        }
    }

    async fn wish(&self, event: &'static str) {
        if let Some(id) = self.some_session() {
            self.wish_for(id, event).await;
        }
    }

    pub(super) async fn wish_for(&self, id: Id<Session>, event: &'static str) {
        {
            let mut ledger = self.world.ledger();
            let note = ledger.sessions.get_mut(&id).unwrap();
            note.overlapped |= note.wishing > 0;
            note.wishing += 1;
            note.wish = Wish::Unclear;
            note.deleting |= event == "delete";
        }
        let reference = id.to_string();
        let reply = self
            .call(event, move |plane, caller| async move {
                match event {
                    "start" => plane.start_session(&caller, &reference).await,
                    "stop" => plane.stop_session(&caller, &reference).await,
                    "force-stop" => plane.force_stop_session(&caller, &reference).await,
                    "restart" => plane.restart_session(&caller, &reference).await,
                    _ => plane.delete_session(&caller, &reference).await,
                }
            })
            .await;
        let mut ledger = self.world.ledger();
        let note = ledger.sessions.get_mut(&id).unwrap();
        let alone = !note.overlapped;
        note.wishing -= 1;
        note.overlapped &= note.wishing > 0;
        note.wish = match (&reply, event) {
            (Some(Ok(_)), "start" | "restart") if alone => Wish::Run,
            (Some(Ok(_)), "stop" | "force-stop") if alone => Wish::Sleep,
            _ => Wish::Unclear,
        };
        note.deleted |= event == "delete" && matches!(reply, Some(Ok(_)));
    }
}

/// Whether the defect is the fault layer's.
fn is_made_up(error: &Error) -> bool {
    error.source.as_ref().is_some_and(|source| source.context() == SIMULATED)
}
