use std::collections::BTreeMap;

use burstflare_ports::time::Timestamp;
use burstflare_ports::wire::terminal::{self, Size};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes a terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTerminal {
    /// Program and arguments, at most 1,024 items and 128 KiB; the user's login shell unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// Working folder, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Additional variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Height until somebody looks at it; 24 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
    /// Width until somebody looks at it; 80 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<u16>,
}

impl From<CreateTerminal> for terminal::NewTerminal {
    fn from(wish: CreateTerminal) -> Self {
        let usual = terminal::USUAL;
        let size =
            Size { rows: wish.rows.unwrap_or(usual.rows), columns: wish.columns.unwrap_or(usual.columns) };
        Self { argv: wish.argv, cwd: wish.cwd, env: wish.env, size: Some(size.clamped()) }
    }
}

/// A terminal of a session's present life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Terminal {
    /// Names it in this life of the machine.
    pub id: u32,
    /// What it runs.
    pub argv: Vec<String>,
    /// What its program calls it.
    pub title: String,
    /// Height.
    pub rows: u16,
    /// Width.
    pub columns: u16,
    /// Who looks at it.
    pub viewers: u32,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// How its program ended; such a terminal is shown for ten more minutes.
    pub ended: Option<TerminalEnd>,
}

/// How a terminal's program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TerminalEnd {
    /// By itself, with this code.
    Code(u8),
    /// By this signal, without `SIG`.
    Signal(String),
}

impl Terminal {
    /// As the agent tells of it at `now`.
    #[must_use]
    pub fn new(told: terminal::Terminal, now: Timestamp) -> Self {
        Self {
            id: told.id,
            argv: told.argv,
            title: told.title,
            rows: told.size.rows,
            columns: told.size.columns,
            viewers: told.viewers,
            created_at: now.before(std::time::Duration::from_millis(told.age_ms)),
            ended: told.ended.map(|ended| match ended {
                terminal::Ended::Code(code) => TerminalEnd::Code(code),
                terminal::Ended::Signal(name) => TerminalEnd::Signal(name),
            }),
        }
    }
}
