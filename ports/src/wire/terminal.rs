//! Terminals of a session, and what a viewer and the agent say to each other about one.
//!
//! A view is a WebSocket. Binary messages are bytes: what the programs write, one way; what the viewer types, the
//! other. Text messages are JSON, [`FromViewer`] and [`ToViewer`], at most [`CONTROL_LIMIT`] bytes; the first of each side
//! is `hello` and `welcome`.
//!
//! Output is sent as long as no more than [`HIGH_MARK`] bytes of it are unacknowledged. A viewer beyond that is behind: once it
//! has acknowledged all but [`LOW_MARK`] bytes it gets on, by a fresh screen where something was left out meanwhile.
//! Programs are held up only while every viewer is behind.
//!
//! The terminal has the smallest height and the smallest width of its viewers' windows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of this conversation.
pub const VIEW_PROTOCOL: u16 = 1;
/// Unacknowledged bytes of output at which a viewer is behind.
pub const HIGH_MARK: u64 = 1 << 20;
/// Unacknowledged bytes of output at which it is not behind any more.
pub const LOW_MARK: u64 = 100 << 10;
/// Terminals of a machine at a time, ended ones that are still shown included.
pub const TERMINALS: usize = 32;
/// Viewers of one terminal at a time.
pub const VIEWERS: usize = 16;
/// Lines above the screen that are kept.
pub const SCROLLBACK: u16 = 1_000;
/// The largest size; the smallest is one row of two columns.
pub const LARGEST: Size = Size { rows: 200, columns: 500 };
/// What a terminal has before anybody looks at it.
pub const USUAL: Size = Size { rows: 24, columns: 80 };
/// The longest text message, in bytes.
pub const CONTROL_LIMIT: usize = 4 << 10;
/// The longest binary message, in bytes.
pub const DATA_LIMIT: usize = 64 << 10;
/// What a viewer may have typed and not yet been told of as taken, in bytes.
pub const TYPED_LIMIT: u64 = 256 << 10;

/// In characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Height.
    pub rows: u16,
    /// Width.
    pub columns: u16,
}

impl Size {
    /// The nearest size that a terminal may have.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self { rows: self.rows.clamp(1, LARGEST.rows), columns: self.columns.clamp(2, LARGEST.columns) }
    }

    /// What both can show.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self { rows: self.rows.min(other.rows), columns: self.columns.min(other.columns) }
    }
}

/// `POST /v1/terminals`: a terminal to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTerminal {
    /// Program and arguments; none: the user's login shell. At most 1,024 items and 128 KiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// Working folder, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Additional variables; at most 256 and 128 KiB.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Until somebody looks at it; [`USUAL`] by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
}

/// How a terminal's program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// By itself, with this code.
    Code(u8),
    /// By this signal, without `SIG`.
    Signal(String),
}

/// A terminal as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Names it in this life of the machine; counts from 1.
    pub id: u32,
    /// What it runs.
    pub argv: Vec<String>,
    /// What its program calls it; at most 256 bytes.
    pub title: String,
    /// Its present size.
    pub size: Size,
    /// Who looks at it.
    pub viewers: u32,
    /// Since it was made, in milliseconds.
    pub age_ms: u64,
    /// Once its program has ended; it is shown for another while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// `GET /v1/terminals`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminals {
    /// The oldest first; at most [`TERMINALS`].
    pub items: Vec<Terminal>,
}

/// How a view begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VIEW_PROTOCOL`].
    pub protocol: u16,
    /// Of the viewer's window; none has no say in the terminal's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Lines above the screen that it wants to see first.
    #[serde(default)]
    pub scrollback: u16,
    /// Names the viewer over all its connections: 16 to 64 of `A-Za-z0-9_-`, chosen at random. What it types is
    /// counted by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewer: Option<String>,
    /// It types nothing.
    #[serde(default)]
    pub read_only: bool,
}

/// What the agent answers to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`VIEW_PROTOCOL`].
    pub protocol: u16,
    /// The terminal.
    pub terminal: Terminal,
    /// Bytes that this viewer typed in all its connections and that the terminal took. Zero also where the viewer is not
    /// known (any more).
    pub typed: u64,
}

/// A text message of a viewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromViewer {
    /// The first one.
    Hello(Hello),
    /// Its window changed.
    Size(Size),
    /// Bytes of output, in all of this connection, that it has dealt with.
    Ack(u64),
}

/// Why a screen comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The view begins.
    Join,
    /// The viewer was behind, and something was left out.
    Resync,
    /// The terminal has another size.
    Size,
}

/// A whole screen, in the binary messages that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen {
    /// Why.
    pub cause: Cause,
    /// What it is made for.
    pub size: Size,
    /// So many of the next bytes of output are it.
    pub bytes: u64,
}

/// A text message of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToViewer {
    /// The first one.
    Welcome(Welcome),
    /// What comes next replaces everything shown.
    Screen(Screen),
    /// Bytes typed by this viewer, in all its connections, that the terminal took.
    Typed(u64),
    /// The program ended, all output was sent; nothing follows.
    Exit(Ended),
    /// The view ends for another reason; a code, as in [`super::Refusal`].
    Gone(String),
}
