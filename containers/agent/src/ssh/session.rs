//! One SSH connection: who logs in, which channels it opens, what it asks of them.

use std::collections::HashMap;
use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty, Sig};
use rustix::process::Pid;
use rustix::termios::Winsize;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::WINDOW;
use super::channel::{self, Out, Program, STDERR, TerminalWish, Wish};
use super::forward::{self, Target};
use super::inbox::{Inbox, TRICKLE};
use super::listen::{Forwards, Name};
use super::signals;
use crate::activity::Reason;
use crate::agent::Agent;
use crate::pty::Master;
use crate::reaper::kill_group;

/// Channels of one connection.
const CHANNELS: usize = 256;
/// Variables that a client may set on one channel, and bytes of each.
const VARIABLES: usize = 64;
const VARIABLE_BYTES: usize = 4096;

/// One connection.
pub(super) struct Visit {
    agent: Arc<Agent>,
    allowed: PublicKey,
    logged_in: Arc<Notify>,
    doors: HashMap<ChannelId, Door>,
    forwards: Forwards,
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
        self.inbox.leave();
    }
}

impl Visit {
    /// A connection on which this key may log in.
    pub(super) fn new(agent: Arc<Agent>, allowed: PublicKey) -> Self {
        let forwards = Forwards::new(Arc::clone(&agent));
        Self { agent, allowed, logged_in: Arc::default(), doors: HashMap::new(), forwards }
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

    /// Carries a channel to what it is to reach.
    async fn forward(&mut self, channel: Channel<Msg>, target: Option<Target>, reply: ChannelOpenHandle) {
        let id = channel.id();
        let (_, out) = channel.split();
        let Some(target) = target else {
            return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        };
        self.agent.activity.note(Reason::SshInput);
        let agent = Arc::clone(&self.agent);
        match self.door(id, None) {
            Some(door) => {
                let carrying = forward::open(agent, target, reply, Arc::clone(&door.inbox), out);
                door.task = Some(tokio::spawn(carrying).abort_handle());
            }
            None => reply.reject(ChannelOpenFailure::ResourceShortage).await,
        }
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
                // Clients say no more than that it failed, so the reason goes where errors go.
                session.channel_success(id)?;
                door.task = Some(tokio::spawn(channel::refuse(problem, out)).abort_handle());
                Ok(())
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
        "LANG"
            | "LANGUAGE"
            | "COLORTERM"
            | "TERM_PROGRAM"
            | "TERM_PROGRAM_VERSION"
            | "NO_COLOR"
            | "TZ"
            | "GIT_PROTOCOL"
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
        let target = u16::try_from(port).ok().map(|port| Target::Tcp(host.to_owned(), port));
        self.forward(channel, target, reply).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.forward(channel, Some(Target::Unix(path.to_owned())), reply).await;
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        // One that we opened, for a connection to a forwarded port. How many there are is bounded there.
        let inbox = self.forwards.ours.meet(id);
        self.doors.insert(id, Door { inbox, waiting: None, process: None, terminal: None, task: None });
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        host: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Error> {
        match self.forwards.tcp(host, *port, &session.handle()) {
            Ok(bound) => *port = bound,
            Err(problem) => {
                tracing::debug!(host, port, %problem, "a port could not be forwarded");
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        host: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.forwards.cancel(&Name::Tcp(host.to_owned(), port)))
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, Error> {
        let listening = self.forwards.unix(path, &session.handle());
        if let Err(problem) = &listening {
            tracing::debug!(path, %problem, "a socket could not be forwarded");
        }
        Ok(listening.is_ok())
    }

    async fn cancel_streamlocal_forward(
        &mut self,
        path: &str,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.forwards.cancel(&Name::Unix(path.to_owned())))
    }

    async fn agent_request(&mut self, id: ChannelId, session: &mut Session) -> Result<bool, Error> {
        // OpenSSH asks for no answer and so says nothing about a refusal: the user is told where they look.
        let note = "flare: sessions do not forward SSH agents; use a key or token of the session's own.\r\n";
        session.extended_data(id, STDERR, note)?;
        Ok(false)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(id)
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        self.doors.remove(&id);
        self.forwards.ours.forget(id);
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
        let Some(signal) = signals::wanted(&signal) else { return Ok(()) };
        let process = self.doors.get(&id).and_then(|door| door.process);
        // Only while it is ours: a buried process's id may be somebody else's.
        if let Some(pid) = process.filter(|pid| self.agent.children.alive().contains(pid)) {
            kill_group(pid, signal);
        }
        Ok(())
    }
}
