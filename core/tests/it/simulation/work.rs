//! What users do inside of sessions, and with secrets that work once.

use burstflare_core::service::Attach;
use burstflare_ports::id::Id;
use burstflare_ports::machine::{MachineKey, MachineOwner};
use burstflare_ports::record::{Goal, Origin, Session, SessionState, SnapshotState, TicketPurpose};
use burstflare_ports::wire::{ExecOutput, ExecRequest};

use super::user::Client;

/// RFC 8032, section 7.1, test 1, as an SSH key.
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";

impl Client {
    /// Runs a command and reads its output to the end.
    async fn exec(
        &self,
        action: &'static str,
        session: Id<Session>,
        words: &[&str],
    ) -> Option<Vec<ExecOutput>> {
        let request = ExecRequest {
            argv: words.iter().map(|word| (*word).to_owned()).collect(),
            ..ExecRequest::default()
        };
        let reply = self
            .call(action, move |plane, caller| async move {
                let response = plane.exec(&caller, &session.to_string(), &request).await?;
                let bytes = response.into_body().collect(1 << 20, "exec").await?;
                let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                Ok(lines.map(|line| serde_json::from_slice(line).unwrap()).collect())
            })
            .await;
        reply?.ok()
    }

    /// Writes and syncs a file. It counts once the command said that it succeeded.
    pub(super) async fn write(&self) {
        let Some(session) = self.some_session() else { return };
        let steady = self.steady(session).await;
        let number = self.world.ledger().number();
        let (path, text) = (format!("file-{number}"), format!("text-{number}"));
        let lines = self.exec("write", session, &["write", &path, &text]).await;
        if lines.is_some_and(|lines| lines.last() == Some(&ExecOutput::Exit(0))) {
            let mut ledger = self.world.ledger();
            let note = ledger.sessions.get_mut(&session).unwrap();
            if steady == Some(note.rolls) {
                note.files.insert(path, text);
            }
            ledger.count("file");
        }
    }

    /// Looks whether a file that was written before is there.
    pub(super) async fn read(&self) {
        let Some(session) = self.some_session() else { return };
        let steady = self.steady(session).await;
        let known = {
            let ledger = self.world.ledger();
            let files: Vec<(String, String)> = ledger.sessions[&session].files.clone().into_iter().collect();
            self.world.rng.pick(&files).cloned()
        };
        let Some((path, text)) = known else { return };
        let Some(lines) = self.exec("read", session, &["read", &path]).await else { return };
        let lost = match lines.last() {
            Some(ExecOutput::Exit(0)) => lines[0] != ExecOutput::Stdout(text),
            Some(ExecOutput::Exit(_)) => true,
            _ => false,
        };
        let same = steady == Some(self.world.ledger().sessions[&session].rolls);
        if lost && same {
            self.world.ledger().broken.push(format!("{session}: {path} is lost: {lines:?}"));
        }
    }

    /// Two at once come with the same ticket.
    pub(super) async fn redeem_twice(&self) {
        let Some(session) = self.some_session() else { return };
        let wish = Attach { purpose: TicketPurpose::Ssh, ssh_key: Some(KEY.to_owned()), port: None };
        let reply = self
            .call("attach", move |plane, caller| async move {
                plane.attach(&caller, &session.to_string(), wish).await
            })
            .await;
        let Some(Ok(attachment)) = reply else { return };
        let redeem = || {
            let ticket = attachment.ticket.clone();
            self.world.call(move |plane| async move {
                plane.redeem(&ticket, &session.to_string(), TicketPurpose::Ssh, Origin::default()).await
            })
        };
        let (first, second) = futures_util::future::join(redeem(), redeem()).await;
        let third = redeem().await;
        let opened = [&first, &second, &third].into_iter().filter(|got| matches!(got, Some(Ok(_)))).count();
        let mut ledger = self.world.ledger();
        if opened > 0 {
            ledger.count("redeem");
        }
        if opened > 1 {
            ledger.broken.push(format!("{session}: a ticket opened it {opened} times"));
        }
    }

    /// Two at once come with the same refresh token: one gets new tokens, and the whole sign-in ends.
    pub(super) async fn refresh_twice(&self) {
        let own = self.account().workspace.to_string();
        let reply = self
            .call("sign in", |plane, caller| async move { plane.use_workspace(&caller, &own).await })
            .await;
        let Some(Ok(signed_in)) = reply else { return };
        let refresh = || {
            let token = signed_in.tokens.refresh.clone();
            self.world.call(move |plane| async move { plane.refresh(&token, Origin::default()).await })
        };
        let (first, second) = futures_util::future::join(refresh(), refresh()).await;
        let refused = |got: &Option<Result<_, burstflare_core::Error>>| matches!(got, Some(Err(error)) if error.code == "refresh_refused");
        let reuse_seen = refused(&first) || refused(&second);
        let fresh: Vec<_> =
            [first, second].into_iter().flatten().flatten().map(|got| got.tokens.access).collect();
        let mut ledger = self.world.ledger();
        if fresh.len() > 1 {
            ledger.broken.push("a refresh token was good twice".to_owned());
        }
        if reuse_seen {
            ledger.count("reuse");
            ledger.revoked.extend(fresh);
            ledger.revoked.push(signed_in.tokens.access);
        }
    }

    /// The disk of a session that sleeps is lost, if its snapshot holds everything that was promised.
    pub(super) async fn lose_disk(&self) {
        let Some(id) = self.some_session() else { return };
        let (store, workspace) = (&self.world.store, self.account().workspace);
        let Ok(Some(session)) = store.session(workspace, id).await else { return };
        let Some(newest) = session.snapshot else { return };
        let Ok(Some(snapshot)) = store.snapshot(workspace, newest).await else { return };
        let rests = session.state == SessionState::Sleeping
            && session.goal == Goal::Sleep
            && session.restore.is_none();
        let tree = self.world.tree_of(&snapshot).await.unwrap_or_default();
        let whole =
            self.world.ledger().sessions[&id].files.iter().all(|file| tree.get(file.0) == Some(file.1));
        if rests && whole && snapshot.state == SnapshotState::Complete {
            self.world.machines.lose_disk(MachineKey { workspace, owner: MachineOwner::Session(id) });
            self.world.ledger().count("disk lost");
            // Half of the owners are in a hurry, and some of those change their mind while it is being restored.
            if self.world.rng.hits(5_000) {
                self.wish_for(id, "start").await;
                self.world.sleep(self.world.rng.below(6_000)).await;
                let then = *self.world.rng.pick(&["stop", "restart", "force-stop", "start"]).unwrap();
                self.wish_for(id, then).await;
            }
        }
    }
}
