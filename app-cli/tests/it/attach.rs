//! `flare attach` by the real program on real terminals: what one types all see, and who comes back sees the same.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::flare::{EXE, PATIENCE, Place, session, wait};

const SIZE: Winsize = Winsize { ws_row: 12, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };

/// What a terminal shows, kept up to date by a thread that reads the other end.
type Shown = Arc<(Mutex<avt::Terminal>, Condvar)>;

/// A program at a terminal of its own.
struct Window {
    child: Child,
    keyboard: File,
    slave: OwnedFd,
    shown: Shown,
}

impl Window {
    fn open(place: &Place, words: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).expect("a terminal");
        rustix::pty::unlockpt(&master).expect("unlocked");
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("its other end");
        rustix::termios::tcsetwinsize(&master, SIZE).expect("sized");
        let other = || slave.try_clone().expect("cloned");
        let mut command = place.command(EXE);
        command.args(words).env("TERM", "xterm-256color").stdin(other()).stdout(other()).stderr(other());
        // SAFETY: between fork and exec it only makes system calls.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().expect("runs");
        let (columns, rows) = (SIZE.ws_col.into(), SIZE.ws_row.into());
        let terminal = avt::Terminal::with_scrollback(columns, rows, Some(1000)).expect("a size");
        let shown: Shown = Arc::new((Mutex::new(terminal), Condvar::new()));
        let mut screen = File::from(master);
        let keyboard = screen.try_clone().expect("cloned");
        let showing = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut piece) {
                // Nothing here writes characters that could be cut in half.
                showing.0.lock().expect("no panic").feed(String::from_utf8_lossy(&piece[..read]).as_ref());
                showing.1.notify_all();
            }
        });
        Self { child, keyboard, slave, shown }
    }

    fn attach(place: &Place, more: &[&str]) -> Self {
        let window = Self::open(place, &[&["attach", "s"], more].concat());
        window.until("it is attached", |_| !window.is_cooked());
        window
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("typed");
    }

    #[track_caller]
    fn until(&self, what: &str, seen: impl Fn(&avt::Terminal) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut shown = self.shown.0.lock().expect("no panic");
        while !seen(&shown) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not {what}: {}", text(&shown));
            shown =
                self.shown.1.wait_timeout(shown, left.min(Duration::from_millis(500))).expect("no panic").0;
        }
    }

    #[track_caller]
    fn until_shown(&self, what: &str) {
        self.until(what, |shown| text(shown).contains(what));
    }

    fn picture(&self) -> String {
        picture(&self.shown.0.lock().expect("no panic"))
    }

    fn is_cooked(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.slave).expect("modes").local_modes;
        modes.contains(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO)
    }

    #[track_caller]
    fn code(mut self) -> Option<i32> {
        let status = wait(&mut self.child).expect("it ends");
        assert!(self.is_cooked(), "the terminal is as it was");
        status.code()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(shown: &avt::Terminal) -> String {
    shown.screen().visible_lines().map(|line| line.text().trim_end().to_owned() + "\n").collect()
}

/// The screen with its colours, its cursor, and which of the two it is.
fn picture(shown: &avt::Terminal) -> String {
    let cells: Vec<String> =
        shown.screen().visible_lines().map(|line| format!("{:?}\n", line.cells())).collect();
    format!("{:?} {:?}\n{}", shown.active_screen_kind(), shown.cursor(), cells.concat())
}

#[test]
fn two_see_what_either_types_and_who_comes_back_sees_the_same() {
    let place = Place::new();
    let _server = place.server();
    session(&place, &_server, None);
    let mut one = Window::attach(&place, &[]);
    one.type_in("PS1='$ '; clear; echo t$((1))o\r");
    one.until_shown("t1o");
    let mut two = Window::attach(&place, &[]);
    two.until_shown("t1o");
    two.type_in("echo fr$((0))m two\r");
    one.until_shown("fr0m two");
    two.until_shown("fr0m two");

    // A program on the whole screen: the other one, colours, margins, a cursor somewhere.
    one.type_in("printf '\\033[?1049h\\033[2J'; for i in 1 2 3 4 5 6 7 8; do printf \"\\033[$i;$((i*5))H\\033[3${i}m*$i*\\033[4${i}m \"; done; printf '\\033[0m\\033[3;9r\\033[10;7Hhere'; read x\r");
    for window in [&one, &two] {
        window.until("the pattern", |shown| {
            text(shown).contains("here") && shown.active_screen_kind() == avt::ScreenKind::Alternate
        });
    }
    let before = one.picture();
    assert_eq!(two.picture(), before);
    two.child.kill().expect("killed");
    drop(two);
    let two = Window::attach(&place, &[]);
    two.until("the same screen", |shown| picture(shown) == before);

    let listed = place.flare(["attach", "s", "--list", "--json"]).ok().json();
    assert_eq!(
        (&listed["items"][0]["id"], &listed["items"][0]["viewers"]),
        (&1.into(), &2.into()),
        "{listed}"
    );
    one.type_in("\x1dd");
    assert_eq!(one.code(), Some(0));
    let mut two = two;
    two.type_in("\rprintf '\\033[?1049l'; clear; exit 7\r");
    assert_eq!(two.code(), Some(7), "the exit code is the shell's");
    place.flare(["attach", "s"]).fails(2, "no terminal");
}

#[test]
fn a_new_server_is_found_again_and_nothing_is_typed_twice() {
    let place = Place::new();
    let server = place.server_with(&["--port", "0"]);
    session(&place, &server, None);
    let port = server.url.rsplit(':').next().expect("a port").trim_end_matches('/').to_owned();
    let mut window = Window::attach(&place, &[]);
    window.type_in("PS1='$ '; clear; echo r$((1))ady\r");
    window.until_shown("r1ady");
    // Killed: its machines live on.
    server.signal(rustix::process::Signal::KILL);
    drop(server);
    window.until_shown("trying again");
    window.type_in("echo typed-$((6*7)) >> once; cat once\r");
    let _server = place.server_with(&["--port", &port]);
    window.until_shown("typed-42");
    window.type_in("clear; wc -l < once; echo d$((1))ne\r");
    window.until_shown("d1ne");
    window.until("once", |shown| text(shown).lines().any(|line| line.trim() == "1"));
    window.type_in("exit\r");
    assert_eq!(window.code(), Some(0));
}

#[test]
fn the_terminal_is_given_back_on_every_way_out() {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT, rustix::process::Signal::HUP]
    {
        let window = Window::attach(&place, &[]);
        window.until("raw", |_| !window.is_cooked());
        rustix::process::kill_process(rustix::process::Pid::from_child(&window.child), signal).expect("sent");
        window.code();
    }
    // The right to be there ends: so does the view, and it says why.
    let window = Window::attach(&place, &["--read-only"]);
    place.flare(["auth", "logout"]).ok();
    window.until_shown("sign");
    assert_eq!(window.code(), Some(4));
}

/// Seconds of flood: `FLOOD=10` for the record.
fn flood() -> Duration {
    let seconds = std::env::var("FLOOD").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    Duration::from_secs(seconds)
}

#[test]
fn a_flood_in_one_terminal_delays_no_other() {
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    let mut quiet = Window::attach(&place, &["--new"]);
    quiet.type_in("PS1=; stty -echo; clear; exec cat\r");
    let mut flooded = Window::attach(&place, &["--new"]);
    flooded.type_in("yes\r");
    flooded.until("the flood", |shown| text(shown).starts_with("y\ny\ny\n"));
    let agent = || -> u64 {
        // The agent of the only session: the child of ours that is called so.
        let mut all: Vec<u64> = std::fs::read_dir("/proc")
            .expect("proc")
            .flatten()
            .filter(|entry| {
                let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let ours = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                command.starts_with(b"flare-agent") && descends(&ours, server.pid())
            })
            .filter_map(|entry| {
                let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
                let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
                line.trim().trim_end_matches(" kB").parse().ok()
            })
            .collect();
        all.sort_unstable();
        all.pop().unwrap_or_default()
    };
    quiet.type_in("warm\r");
    quiet.until_shown("warm");
    let before = agent();
    let (begun, mut times) = (Instant::now(), Vec::new());
    for number in 0.. {
        if begun.elapsed() > flood() {
            break;
        }
        let word = format!("<{number}>");
        let typed = Instant::now();
        quiet.type_in(&format!("{word}\r"));
        quiet.until_shown(&word);
        times.push(typed.elapsed());
    }
    let after = agent();
    times.sort_unstable();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!(
        "{} echoes beside a flood of {:?}: median {median:?}, slowest {slowest:?}; agent {before} -> {after} KiB",
        times.len(),
        flood()
    );
    assert!(slowest < Duration::from_secs(5), "it does not wait for the flood's end: {slowest:?}");
    assert!(before == 0 || after < before + (32 << 10), "{before} -> {after} KiB");
    flooded.type_in("\x03");
    flooded.type_in("clear; echo c$((1))lm\r");
    flooded.until_shown("c1lm");
    place.flare(["attach", "s", "--list"]).ok();
}

/// Whether a process of this `stat` has `ancestor` above it.
fn descends(stat: &str, ancestor: u32) -> bool {
    let parent =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
    match parent {
        Some(parent) if parent == ancestor => true,
        Some(0 | 1) | None => false,
        Some(parent) => std::fs::read_to_string(format!("/proc/{parent}/stat"))
            .is_ok_and(|stat| descends(&stat, ancestor)),
    }
}
