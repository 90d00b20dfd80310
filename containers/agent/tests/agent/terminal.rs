//! Terminals as the edge reaches them: made, looked at by several, flooded, closed.
#![expect(clippy::panic, reason = "what a test needs and does not get fails it")]

use std::time::{Duration, Instant};

use burstflare_ports::wire::terminal::{
    Cause, Ended, FromViewer, HIGH_MARK, Hello, NewTerminal, Size, TERMINALS, Terminal, Terminals, ToViewer,
    VIEW_PROTOCOL, VIEWERS, Welcome,
};
use burstflare_ports::wire::{EPOCH_HEADER, Ready, capability};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, StatusCode};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::machine::{EPOCH, KEY, Machine};

const PATIENCE: Duration = Duration::from_secs(30);
const SIZE: Size = Size { rows: 10, columns: 40 };

/// A viewer with a terminal of its own to show things on.
struct Viewer {
    socket: WebSocketStream<UnixStream>,
    shown: avt::Terminal,
    welcome: Welcome,
    received: u64,
    acknowledges: bool,
    screens: Vec<Cause>,
    typed: u64,
}

fn hello() -> Hello {
    Hello { protocol: VIEW_PROTOCOL, size: Some(SIZE), scrollback: 100, viewer: None, read_only: false }
}

async fn open(machine: &Machine, id: u32) -> WebSocketStream<UnixStream> {
    let mut request = format!("ws://agent/v1/terminals/{id}/view").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {KEY}").parse().unwrap());
    request.headers_mut().insert(EPOCH_HEADER, EPOCH.into());
    client_async(request, UnixStream::connect(machine.socket()).await.unwrap()).await.unwrap().0
}

fn control(message: &FromViewer) -> Message {
    Message::Text(serde_json::to_string(message).unwrap().into())
}

async fn next(socket: &mut WebSocketStream<UnixStream>) -> Option<Message> {
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.unwrap() {
            Some(Ok(Message::Ping(_))) => {}
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(message)) => return Some(message),
        }
    }
}

impl Viewer {
    async fn new(machine: &Machine, id: u32, hello: Hello) -> Self {
        let mut socket = open(machine, id).await;
        socket.send(control(&FromViewer::Hello(hello))).await.unwrap();
        let Some(Message::Text(text)) = next(&mut socket).await else { panic!("no welcome") };
        let ToViewer::Welcome(welcome) = serde_json::from_str(text.as_str()).unwrap() else {
            panic!("{text}")
        };
        let size = welcome.terminal.size;
        Self {
            socket,
            shown: avt::Terminal::with_scrollback(size.columns.into(), size.rows.into(), Some(1000)).unwrap(),
            welcome,
            received: 0,
            acknowledges: true,
            screens: Vec::new(),
            typed: 0,
        }
    }

    /// Takes one message in; the last one where it is that.
    async fn step(&mut self) -> Option<ToViewer> {
        let Some(message) = next(&mut self.socket).await else { panic!("the view broke: {}", self.text()) };
        match message {
            Message::Binary(bytes) => {
                // The tests' programs write whole characters.
                self.shown.feed(String::from_utf8_lossy(&bytes).as_ref());
                self.received += bytes.len() as u64;
                if self.acknowledges {
                    self.acknowledge().await;
                }
                None
            }
            Message::Text(text) => match serde_json::from_str(text.as_str()).unwrap() {
                ToViewer::Screen(screen) => {
                    self.screens.push(screen.cause);
                    self.shown.resize(screen.size.columns.into(), screen.size.rows.into());
                    None
                }
                ToViewer::Typed(typed) => {
                    self.typed = typed;
                    None
                }
                last => Some(last),
            },
            other => panic!("{other:?}"),
        }
    }

    async fn acknowledge(&mut self) {
        self.socket.send(control(&FromViewer::Ack(self.received))).await.ok();
    }

    async fn type_in(&mut self, text: &str) {
        self.socket.send(Message::Binary(Bytes::copy_from_slice(text.as_bytes()))).await.unwrap();
    }

    fn text(&self) -> String {
        self.shown.screen().visible_lines().map(|line| line.text().trim_end().to_owned() + "\n").collect()
    }

    async fn until(&mut self, seen: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !seen(self) {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let Ok(last) = tokio::time::timeout(left, self.step()).await else {
                panic!("late: {}", self.text())
            };
            assert_eq!(last, None, "{}", self.text());
        }
    }

    async fn until_shown(&mut self, text: &str) {
        self.until(|viewer| viewer.text().contains(text)).await;
    }

    async fn last(&mut self) -> ToViewer {
        loop {
            if let Some(last) = self.step().await {
                return last;
            }
        }
    }
}

async fn make(machine: &Machine, script: &str) -> u32 {
    let argv = if script.is_empty() { Vec::new() } else { ["sh", "-c", script].map(str::to_owned).to_vec() };
    let wish = NewTerminal { argv, size: Some(SIZE), ..NewTerminal::default() };
    let (status, body) =
        machine.call(Method::POST, "/v1/terminals", serde_json::to_vec(&wish).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    serde_json::from_slice::<Terminal>(&body).unwrap().id
}

async fn list(machine: &Machine) -> Vec<Terminal> {
    serde_json::from_slice::<Terminals>(&machine.get("/v1/terminals").await.1).unwrap().items
}

#[tokio::test]
async fn it_says_that_it_has_terminals() {
    let machine = Machine::start();
    let ready: Ready = serde_json::from_slice(&machine.get("/ready").await.1).unwrap();
    assert!(ready.capabilities.iter().any(|name| name == capability::TERMINALS));
    assert_eq!(list(&machine).await, []);
}

#[tokio::test]
async fn two_viewers_see_what_either_types_and_a_third_sees_the_same() {
    let machine = Machine::start();
    let id = make(&machine, "").await;
    let mut one = Viewer::new(&machine, id, hello()).await;
    let mut two = Viewer::new(&machine, id, hello()).await;
    one.type_in("echo o$((1))ne; tty; echo $TERM; stty size\n").await;
    for viewer in [&mut one, &mut two] {
        viewer.until_shown("o1ne").await;
        viewer.until_shown("/dev/pts/").await;
        viewer.until_shown("xterm-256color\n10 40").await;
    }
    two.type_in("PS1=; clear; printf '\\033[31mtwo\\033[0m'; printf '\\033]0;a title\\007'\n").await;
    for viewer in [&mut one, &mut two] {
        viewer.until(|viewer| viewer.text().starts_with("two")).await;
    }
    let mut three = Viewer::new(&machine, id, hello()).await;
    three.until(|viewer| viewer.text().starts_with("two")).await;
    assert_eq!(three.shown.dump(), two.shown.dump());
    assert_eq!(three.screens, [Cause::Join]);
    assert_eq!((list(&machine).await[0].viewers, list(&machine).await[0].title.as_str()), (3, "a title"));
    one.type_in("exit 3\n").await;
    for viewer in [&mut one, &mut two, &mut three] {
        assert_eq!(viewer.last().await, ToViewer::Exit(Ended::Code(3)));
        assert!(next(&mut viewer.socket).await.is_none(), "nothing follows");
    }
    assert_eq!(list(&machine).await[0].ended, Some(Ended::Code(3)));
    let mut late = Viewer::new(&machine, id, hello()).await;
    assert_eq!(late.last().await, ToViewer::Exit(Ended::Code(3)));
    assert!(late.text().contains("two"), "{}", late.text());
}

#[tokio::test]
async fn it_lives_on_without_viewers_and_is_closed() {
    let machine = Machine::start();
    let id = make(
        &machine,
        "trap '' HUP; read line; echo got $line; seq 1 30; printf '\\033[?1049hALT'; sleep 600",
    )
    .await;
    let mut viewer = Viewer::new(&machine, id, hello()).await;
    viewer.type_in("some\n").await;
    drop(viewer);
    let mut viewer = Viewer::new(&machine, id, hello()).await;
    viewer.until_shown("ALT").await;
    assert_eq!(viewer.shown.active_screen_kind(), avt::ScreenKind::Alternate);
    viewer.shown.feed("\x1b[?1047l");
    assert!(viewer.text().contains("30"), "{}", viewer.text());
    assert!(viewer.shown.primary_screen().text().contains(&"got some".to_owned()), "above the screen");
    let path = format!("/v1/terminals/{id}");
    assert_eq!(machine.call(Method::DELETE, &path, "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(viewer.last().await, ToViewer::Exit(Ended::Signal("KILL".into())));
    assert_eq!(machine.refusal(Method::GET, &path, "").await.1.code, "not_found");
    assert_eq!(list(&machine).await, []);
    for path in ["/v1/terminals/9", "/v1/terminals/x", "/v1/terminals/-1", "/v1/terminals/99999999999"] {
        assert_eq!(machine.refusal(Method::DELETE, path, "").await.1.code, "not_found", "{path}");
    }
    assert_eq!(machine.refusal(Method::GET, "/v1/terminals/1/nothing", "").await.1.code, "unknown_call");
}

#[tokio::test]
async fn it_is_as_large_as_all_can_show() {
    let machine = Machine::start();
    let id = make(&machine, "trap 'stty size' WINCH; while :; do sleep 0.01; done").await;
    let wide = Size { rows: 8, columns: 100 };
    let mut one = Viewer::new(&machine, id, hello()).await;
    let mut two = Viewer::new(&machine, id, Hello { size: Some(wide), ..hello() }).await;
    one.until_shown("8 40").await;
    assert_eq!(one.screens, [Cause::Join, Cause::Size]);
    one.socket.send(control(&FromViewer::Size(Size { rows: 30, columns: 90 }))).await.unwrap();
    two.until_shown("8 90").await;
    drop(one);
    two.until_shown("8 100").await;
    // Who has no window has no say.
    let mut ear = Viewer::new(&machine, id, Hello { size: None, ..hello() }).await;
    ear.until_shown("8 100").await;
    assert_eq!(ear.welcome.terminal.size, wide);
    two.socket.send(control(&FromViewer::Size(Size { rows: 0, columns: u16::MAX }))).await.unwrap();
    two.until(|viewer| viewer.screens.len() > 2).await;
    assert_eq!(list(&machine).await[0].size, Size { rows: 1, columns: 500 });
}

#[tokio::test]
async fn what_was_typed_is_typed_once_whatever_breaks() {
    let machine = Machine::start();
    let id = make(&machine, "stty -echo; while read line; do echo \"<$line>\"; done").await;
    let key = || Hello { viewer: Some("0123456789abcdef".into()), ..hello() };
    let mut viewer = Viewer::new(&machine, id, key()).await;
    assert_eq!(viewer.welcome.typed, 0);
    viewer.type_in("first\n").await;
    viewer.until(|viewer| viewer.typed == 6).await;
    // Lost together with the connection, or not: the next welcome says.
    viewer.type_in("second\n").await;
    drop(viewer);
    let mut viewer = Viewer::new(&machine, id, key()).await;
    let typed = usize::try_from(viewer.welcome.typed).unwrap();
    let rest = &"first\nsecond\n"[typed..];
    if !rest.is_empty() {
        viewer.type_in(rest).await;
    }
    viewer.until_shown("<first>\n<second>").await;
    let mut other = Viewer::new(&machine, id, key()).await;
    assert_eq!(other.welcome.typed, 13);
    assert!(next(&mut viewer.socket).await.is_none(), "who comes back replaces who was there");
    let mut ear = Viewer::new(&machine, id, Hello { read_only: true, ..hello() }).await;
    ear.type_in("never\n").await;
    other.type_in("third\n").await;
    other.until_shown("<third>").await;
    assert!(!other.text().contains("never"));
}

#[tokio::test]
async fn who_is_slow_gets_a_screen_and_holds_up_nobody() {
    let machine = Machine::start();
    let id = make(&machine, "read go; seq 1 300000; echo all; read end").await;
    let mut slow = Viewer::new(&machine, id, hello()).await;
    slow.acknowledges = false;
    let mut quick = Viewer::new(&machine, id, hello()).await;
    quick.type_in("\n").await;
    quick.until_shown("all").await;
    assert_eq!(quick.screens, [Cause::Join], "it misses nothing");
    assert!(quick.received > 2_000_000, "{}", quick.received);
    // About a mark's worth is on its way, then nothing more.
    slow.until(|viewer| viewer.received >= HIGH_MARK).await;
    assert!(slow.received < HIGH_MARK + (64 << 10), "{}", slow.received);
    slow.acknowledges = true;
    slow.acknowledge().await;
    slow.until_shown("all").await;
    assert_eq!(slow.screens, [Cause::Join, Cause::Resync]);
    assert_eq!(slow.shown.dump(), quick.shown.dump());
}

#[tokio::test]
async fn programs_wait_while_all_are_behind_but_not_for_the_dead() {
    let machine = Machine::start();
    let id = make(&machine, "read go; seq 1 300000; echo all; read end").await;
    let mut only = Viewer::new(&machine, id, hello()).await;
    only.acknowledges = false;
    only.type_in("\n").await;
    only.until(|viewer| viewer.received >= HIGH_MARK).await;
    only.acknowledges = true;
    only.acknowledge().await;
    only.until_shown("all").await;
    assert_eq!(only.screens, [Cause::Join], "it was waited for, so nothing was left out");
    let id = make(&machine, "read go; seq 1 300000; : > done; read end").await;
    let mut dead = Viewer::new(&machine, id, hello()).await;
    dead.acknowledges = false;
    dead.type_in("\n").await;
    let done = machine.roots[0].join("done");
    let begun = Instant::now();
    while !done.exists() {
        assert!(begun.elapsed() < PATIENCE, "the programs wait for somebody who does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_flood_delays_nobody_and_takes_no_memory() {
    let machine = Machine::start();
    let flood = make(&machine, "yes").await;
    let quiet = make(&machine, "cat").await;
    let mut viewer = Viewer::new(&machine, quiet, hello()).await;
    let mut watcher = Viewer::new(&machine, flood, hello()).await;
    let watching = tokio::spawn(async move {
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            assert_eq!(watcher.step().await, None);
        }
        watcher.received
    });
    let mut slowest = Duration::ZERO;
    let mut before = None;
    while !watching.is_finished() {
        let begun = Instant::now();
        let had = viewer.received;
        viewer.type_in("x").await;
        viewer.until(|viewer| viewer.received > had).await;
        slowest = slowest.max(begun.elapsed());
        before.get_or_insert_with(|| resident(&machine));
    }
    let (before, after) = (before.unwrap(), resident(&machine));
    let received = watching.await.unwrap();
    eprintln!("slowest echo {slowest:?} beside {received} bytes of flood; {before} -> {after} KiB");
    assert!(received > 1 << 20);
    // Generous: what counts is that it does not wait for the flood's end.
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(after < before + (32 << 10), "{before} -> {after} KiB");
}

fn resident(machine: &Machine) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn numbers_are_bounded() {
    let machine = Machine::start();
    let first = make(&machine, "exit 5").await;
    while list(&machine).await[0].ended.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 1..TERMINALS {
        make(&machine, "sleep 600").await;
    }
    assert_eq!(list(&machine).await.len(), TERMINALS);
    make(&machine, "sleep 600").await;
    assert!(list(&machine).await.iter().all(|terminal| terminal.id != first), "ended ones make room");
    let (status, refusal) = machine.refusal(Method::POST, "/v1/terminals", "{}").await;
    assert_eq!((status, refusal.code.as_str()), (409, "busy"));
    let last = list(&machine).await.pop().unwrap().id;
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        viewers.push(Viewer::new(&machine, last, hello()).await);
    }
    let mut one_more = open(&machine, last).await;
    one_more.send(control(&FromViewer::Hello(hello()))).await.unwrap();
    assert_eq!(gone(&mut one_more).await, "busy");
}

async fn gone(socket: &mut WebSocketStream<UnixStream>) -> String {
    let Some(Message::Text(text)) = next(socket).await else { panic!("no word") };
    let ToViewer::Gone(code) = serde_json::from_str(text.as_str()).unwrap() else { panic!("{text}") };
    code
}

#[tokio::test]
async fn hostile_viewers_are_shown_out() {
    let machine = Machine::start();
    let id = make(&machine, "cat").await;
    let bad = [
        (Message::Text("{}".into()), "invalid"),
        (Message::Text("[".repeat(4000).into()), "invalid"),
        (Message::Text(format!("{{\"ack\":{}}}", "1".repeat(5000)).into()), "too_large"),
        (Message::Binary(Bytes::from_static(b"typed first")), "invalid"),
        (control(&FromViewer::Ack(1)), "invalid"),
        (control(&FromViewer::Hello(Hello { protocol: 9, ..hello() })), "protocol"),
        (control(&FromViewer::Hello(Hello { viewer: Some("short".into()), ..hello() })), "invalid"),
    ];
    for (message, code) in bad {
        let mut socket = open(&machine, id).await;
        socket.send(message).await.unwrap();
        assert_eq!(gone(&mut socket).await, code);
    }
    let mut viewer = Viewer::new(&machine, id, hello()).await;
    viewer.socket.send(control(&FromViewer::Ack(u64::MAX))).await.unwrap();
    viewer.type_in("fine\n").await;
    viewer.until_shown("fine").await;
    viewer.socket.send(control(&FromViewer::Hello(hello()))).await.unwrap();
    assert_eq!(viewer.last().await, ToViewer::Gone("invalid".into()));
    // More than a program that reads nothing may have waiting.
    let deaf = make(&machine, "stty raw -echo; sleep 600").await;
    let mut viewer = Viewer::new(&machine, deaf, hello()).await;
    let much = Bytes::from(vec![b'x'; 60 << 10]);
    for _ in 0..40 {
        if viewer.socket.send(Message::Binary(much.clone())).await.is_err() {
            break;
        }
    }
    assert_eq!(list(&machine).await.len(), 2, "the agent lives");
    for wish in ["{\"argv\":[\"\"]}", "{\"argv\":[\"a\\u0000b\"]}", "{\"size\":{\"rows\":-1}}", "1"] {
        assert_eq!(machine.refusal(Method::POST, "/v1/terminals", wish).await.0, 400, "{wish}");
    }
    let nothing = machine.refusal(Method::POST, "/v1/terminals", "{\"argv\":[\"/no/such\"]}").await;
    assert_eq!((nothing.0, nothing.1.code.as_str()), (422, "invalid"));
}
