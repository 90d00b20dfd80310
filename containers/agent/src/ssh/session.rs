//! One SSH connection: who logs in, which channels it opens, what it asks of them.

use std::collections::HashMap;
use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty, Sig};
use rustix::process::{Pid, Signal};
use rustix::termios::Winsize;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::WINDOW;
use super::channel::{self, Out, Program, TerminalWish, Wish};
use super::forward;
use super::inbox::{Inbox, TRICKLE};
use crate::activity::Reason;
use crate::agent::Agent;
use crate::pty::Master;
use crate::reaper::kill_group;

/// Channels of one connection.
const CHANNELS: usize = 128;
/// Variables that a client may set on one channel, and bytes of each.
const VARIABLES: usize = 64;
const VARIABLE_BYTES: usize = 4096;

/// One connection.
pub(super) struct Visit {
    agent: Arc<Agent>,
    allowed: PublicKey,
    logged_in: Arc<Notify>,
    doors: HashMap<ChannelId, Door>,
}

/// One channel.
struct Door {
    inbox: Arc<Inbox>,
    /// Until a program is started.
    waiting: Option<(Out, Wish)>,
    process: Option<Pid>,
    terminal: Option<Arc<Master>>,
    task: Option<AbortHandle>,
}

impl Drop for Door {
    /// The channel is gone: nobody carries any more. A program at a terminal is hung up by that, others meet closed
    /// pipes, as with sshd.
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Visit {
    /// A connection on which this key may log in.
    pub(super) fn new(agent: Arc<Agent>, allowed: PublicKey) -> Self {
        Self { agent, allowed, logged_in: Arc::default(), doors: HashMap::new() }
    }

    /// Told at the login.
    pub(super) fn logged_in(&self) -> Arc<Notify> {
        Arc::clone(&self.logged_in)
    }

    fn admit(&self, key: &PublicKey) -> Auth {
        if key.key_data() == self.allowed.key_data() { Auth::Accept } else { Auth::reject() }
    }

    /// A place for another channel.
    fn door(&mut self, id: ChannelId, waiting: Option<(Out, Wish)>) -> Option<&mut Door> {
        self.doors.retain(|_, door| door.task.as_ref().is_none_or(|task| !task.is_finished()));
        if self.doors.len() >= CHANNELS {
            return None;
        }
        let door = Door { inbox: Arc::default(), waiting, process: None, terminal: None, task: None };
        Some(self.doors.entry(id).insert_entry(door).into_mut())
    }

    fn wish(&mut self, id: ChannelId) -> Option<&mut Wish> {
        self.doors.get_mut(&id)?.waiting.as_mut().map(|(_, wish)| wish)
    }

    fn start(&mut self, id: ChannelId, program: &Program, session: &mut Session) -> Result<(), Error> {
        self.agent.activity.note(Reason::SshInput);
        let started = self.doors.get_mut(&id).and_then(|door| Some((door.waiting.take()?, door)));
        let Some(((out, wish), door)) = started else { return session.channel_failure(id) };
        match channel::start(&self.agent, &wish, program) {
            Ok(running) => {
                session.channel_success(id)?;
                door.process = Some(running.pid);
                door.terminal.clone_from(&running.terminal);
                let attending = channel::attend(running, Arc::clone(&door.inbox), out, session.handle());
                door.task = Some(tokio::spawn(attending).abort_handle());
                Ok(())
            }
            Err(problem) => {
                tracing::warn!(%problem, "a program could not be started");
                session.channel_failure(id)
            }
        }
    }
}

fn answer(session: &mut Session, id: ChannelId, well: bool) -> Result<(), Error> {
    if well { session.channel_success(id) } else { session.channel_failure(id) }
}

fn size(columns: u32, rows: u32, width: u32, height: u32) -> Winsize {
    let short = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    Winsize { ws_row: short(rows), ws_col: short(columns), ws_xpixel: short(width), ws_ypixel: short(height) }
}

/// Language, colours and who the terminal is; nothing that changes which program or library is found.
fn may_set(name: &str) -> bool {
    matches!(
        name,
        "LANG" | "LANGUAGE" | "COLORTERM" | "TERM_PROGRAM" | "TERM_PROGRAM_VERSION" | "NO_COLOR" | "TZ"
    ) || name
        .strip_prefix("LC_")
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}

impl Handler for Visit {
    type Error = Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        Ok(self.admit(offer.public_key))
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        Ok(self.admit(key.public_key))
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Error> {
        self.logged_in.notify_one();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        // The reading half is dropped: data comes through `data`, into an inbox that does not block the connection.
        let id = channel.id();
        let (_, out) = channel.split();
        if self.door(id, Some((out, Wish::default()))).is_some() {
            reply.accept().await;
        } else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let id = channel.id();
        let (_, out) = channel.split();
        let Some(port) = u16::try_from(port).ok().filter(|_| forward::allowed(host)) else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        match self.door(id, None) {
            Some(door) => {
                let carrying = forward::carry(host.to_owned(), port, reply, Arc::clone(&door.inbox), out);
                door.task = Some(tokio::spawn(carrying).abort_handle());
            }
            None => reply.reject(ChannelOpenFailure::ResourceShortage).await,
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.doors.remove(&id);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        if let Some(door) = self.doors.get(&id) {
            door.inbox.end();
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Error> {
        // Of any channel; keepalives and pings of the protocol come elsewhere.
        self.agent.activity.note(Reason::SshInput);
        let Some(door) = self.doors.get(&id) else { return Ok(()) };
        if !door.inbox.push(data).await {
            tracing::warn!("a client overran its window; its channel is closed");
            self.doors.remove(&id);
            session.close(id)?;
        }
        Ok(())
    }

    fn adjust_window(&mut self, _id: ChannelId, _current: u32) -> u32 {
        // The library keeps one target for all channels of a connection, so one full inbox slows all of them.
        if self.doors.values().any(|door| door.inbox.is_full()) { TRICKLE } else { WINDOW }
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let fine = !term.contains('\0') && term.len() <= VARIABLE_BYTES;
        let wish = self.wish(id).filter(|_| fine).map(|wish| {
            let term = if term.is_empty() { "xterm" } else { term };
            let size = size(columns, rows, width, height);
            wish.terminal = Some(TerminalWish { term: term.to_owned(), size, modes: modes.to_vec() });
        });
        answer(session, id, wish.is_some())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let fine = may_set(name) && !value.contains('\0') && value.len() <= VARIABLE_BYTES;
        let set = self.wish(id).filter(|wish| fine && wish.env.len() < VARIABLES).map(|wish| {
            wish.env.insert(name.to_owned(), value.to_owned());
        });
        answer(session, id, set.is_some())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.start(id, &Program::Shell, session)
    }

    async fn exec_request(&mut self, id: ChannelId, line: &[u8], session: &mut Session) -> Result<(), Error> {
        self.start(id, &Program::Command(line.to_vec()), session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let door = self.doors.get_mut(&id).filter(|_| name == "sftp");
        let Some(((out, _), door)) = door.and_then(|door| Some((door.waiting.take()?, door))) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let transfer = channel::transfer(Arc::clone(&self.agent), Arc::clone(&door.inbox), out);
        door.task = Some(tokio::spawn(transfer).abort_handle());
        Ok(())
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        let terminal = self.doors.get(&id).and_then(|door| door.terminal.as_ref());
        let resized =
            terminal.is_some_and(|terminal| terminal.resize(size(columns, rows, width, height)).is_ok());
        answer(session, id, resized)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _session: &mut Session) -> Result<(), Error> {
        let signal = match signal {
            Sig::ABRT => Signal::ABORT,
            Sig::ALRM => Signal::ALARM,
            Sig::FPE => Signal::FPE,
            Sig::HUP => Signal::HUP,
            Sig::ILL => Signal::ILL,
            Sig::INT => Signal::INT,
            Sig::KILL => Signal::KILL,
            Sig::PIPE => Signal::PIPE,
            Sig::QUIT => Signal::QUIT,
            Sig::SEGV => Signal::SEGV,
            Sig::TERM => Signal::TERM,
            Sig::USR1 => Signal::USR1,
            Sig::Custom(name) if name == "USR2" => Signal::USR2,
            Sig::Custom(_) => return Ok(()),
        };
        let process = self.doors.get(&id).and_then(|door| door.process);
        // Only while it is ours: a buried process's id may be somebody else's.
        if let Some(pid) = process.filter(|pid| self.agent.children.alive().contains(pid)) {
            kill_group(pid, signal);
        }
        Ok(())
    }
}
