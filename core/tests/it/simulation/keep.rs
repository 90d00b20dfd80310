//! What users do with snapshots: ask for one, name it, delete it, go back to one, begin another session from one.

use burstflare_core::Kind;
use burstflare_core::service::Fork;
use burstflare_ports::id::Id;
use burstflare_ports::record::{Session, SessionState, Sharing, Snapshot, SnapshotState};
use burstflare_ports::store::PAGE_LIMIT;

use super::ledger::{RestoreNote, SessionNote, SnapshotNote, Wish};
use super::machines::Files;
use super::user::Client;

impl Client {
    /// How often its files were asked to go back, if they are its own now: while it waits for others, nothing that is
    /// written is promised.
    pub(super) async fn steady(&self, session: Id<Session>) -> Option<u64> {
        let record = self.world.store.session(self.account().workspace, session).await.unwrap()?;
        let rolls = self.world.ledger().sessions.get(&session)?.rolls;
        record.restore.is_none().then_some(rolls)
    }

    /// Asks for a snapshot. It has to hold what was acknowledged until then, if it is taken in the same life.
    pub(super) async fn snapshot(&self) {
        let Some(session) = self.some_session() else { return };
        let steady = self.steady(session).await;
        let files = self.world.ledger().sessions[&session].files.clone();
        let label = self.world.rng.hits(3_000).then(|| {
            format!("label-{}", self.world.rng.below(4)).parse::<burstflare_ports::text::Label>().unwrap()
        });
        let reply = self
            .call("snapshot", move |plane, caller| async move {
                plane.create_snapshot(&caller, &session.to_string(), label).await
            })
            .await;
        let Some(Ok(snapshot)) = reply else { return };
        let mut ledger = self.world.ledger();
        let rolls = ledger.sessions[&session].rolls;
        let files = if steady == Some(rolls) { files } else { Files::new() };
        let note = SnapshotNote {
            workspace: snapshot.workspace,
            session,
            epoch: snapshot.epoch,
            files,
            deleting: false,
            deleted: false,
        };
        ledger.snapshots.insert(snapshot.id, note);
    }

    /// One of a session's complete snapshots.
    async fn some_snapshot(&self, session: Id<Session>) -> Option<Snapshot> {
        let own = self.account().workspace;
        let all = self.world.store.snapshots(own, session, None, PAGE_LIMIT).await.unwrap().items;
        let complete: Vec<Snapshot> =
            all.into_iter().filter(|found| found.state == SnapshotState::Complete).collect();
        self.world.rng.pick(&complete).cloned()
    }

    /// Names one, takes a name away, or deletes it.
    pub(super) async fn change_snapshot(&self) {
        let Some(session) = self.some_session() else { return };
        let Some(snapshot) = self.some_snapshot(session).await else { return };
        let (id, reference) = (snapshot.id, snapshot.id.to_string());
        if self.world.rng.hits(5_000) {
            let label = self.world.rng.hits(7_000).then(|| {
                format!("label-{}", self.world.rng.below(4)).parse::<burstflare_ports::text::Label>().unwrap()
            });
            self.call("label snapshot", move |plane, caller| async move {
                plane.label_snapshot(&caller, &reference, label).await
            })
            .await;
            return;
        }
        if let Some(note) = self.world.ledger().snapshots.get_mut(&id) {
            note.deleting = true;
        }
        let reply = self
            .call("delete snapshot", move |plane, caller| async move {
                plane.delete_snapshot(&caller, &reference).await
            })
            .await;
        if let (Some(Ok(_)), Some(note)) = (reply, self.world.ledger().snapshots.get_mut(&id)) {
            note.deleted = true;
        }
    }

    /// Goes back to a snapshot: from then on its files are promised, and no others.
    pub(super) async fn restore(&self) {
        let Some(session) = self.some_session() else { return };
        let Some(snapshot) = self.some_snapshot(session).await else { return };
        let Some(tree) = self.world.tree_of(&snapshot).await else {
            // It may have been deleted in this moment; the end shows.
            return;
        };
        let after = self.world.store.last_event(snapshot.workspace).await.unwrap();
        let (ours, kept) = {
            let mut ledger = self.world.ledger();
            let note = ledger.sessions.get_mut(&session).unwrap();
            note.restoring = None;
            note.rolls += 1;
            note.overlapped |= note.wishing > 0;
            note.wishing += 1;
            note.wish = Wish::Unclear;
            (note.rolls, std::mem::take(&mut note.files))
        };
        let discard = self.world.rng.hits(5_000);
        let reference = snapshot.id.to_string();
        let reply = self
            .call("restore", move |plane, caller| async move {
                plane.restore_snapshot(&caller, &reference, discard).await
            })
            .await;
        let mut ledger = self.world.ledger();
        let note = ledger.sessions.get_mut(&session).unwrap();
        let alone = !note.overlapped;
        note.wishing -= 1;
        note.overlapped &= note.wishing > 0;
        // What was written while nobody knew whether the files go back is promised by nobody.
        let last = note.rolls == ours;
        note.rolls += 1;
        match reply {
            Some(Ok(asked)) => {
                if alone {
                    note.wish = Wish::Run;
                }
                // Of several at once nobody knows which was heard last.
                if last && alone {
                    note.restoring = Some(RestoreNote { snapshot: snapshot.id, after });
                }
                if last {
                    note.files = tree;
                    // Where what the machine holds cannot be saved any more, its files stay as they are.
                    if asked.state == SessionState::Stopping {
                        note.files.retain(|path, text| kept.get(path) == Some(text));
                    }
                } else {
                    note.files.clear();
                }
            }
            // Refused: nothing has happened.
            Some(Err(error)) if last && matches!(error.kind, Kind::Conflict | Kind::NotFound) => {
                note.files.extend(kept);
            }
            _ => note.files.clear(),
        }
    }

    /// Begins another session with the files of one of this one's snapshots.
    pub(super) async fn fork(&self) {
        let Some(origin) = self.some_session() else { return };
        let snapshot = if self.world.rng.hits(5_000) { self.some_snapshot(origin).await } else { None };
        let number = self.world.ledger().number();
        let wish = Fork {
            name: format!("session-{number}").parse().unwrap(),
            snapshot: snapshot.map(|snapshot| snapshot.id.to_string()),
            sharing: Sharing::Private,
        };
        let reply = self
            .call("fork", move |plane, caller| async move {
                plane.fork_session(&caller, &origin.to_string(), wish).await
            })
            .await;
        let Some(Ok(session)) = reply else { return };
        let first = match session.snapshot {
            Some(first) => self.world.store.snapshot(session.workspace, first).await.unwrap(),
            None => None,
        };
        let files = match &first {
            Some(first) => self.world.tree_of(first).await,
            None => None,
        };
        let mut ledger = self.world.ledger();
        if files.is_none() {
            ledger.broken.push(format!("{}: what it was forked from cannot be restored", session.id));
        }
        let note = SessionNote {
            workspace: session.workspace,
            deleting: false,
            deleted: false,
            files: files.unwrap_or_default(),
            wish: Wish::Run,
            wishing: 0,
            overlapped: false,
            rolls: 0,
            restoring: None,
        };
        ledger.sessions.insert(session.id, note);
    }
}
