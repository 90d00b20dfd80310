//! Server-sent events (WHATWG HTML, section 9.2): what changes in the workspace, as it changes.

use std::time::Duration;

use serde_json::Value;

use super::{Call, Client, Reply};
use crate::exit::Failure;

/// The longest line of an event.
const LINE: usize = 1 << 20;

/// Something that changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its place in the sequence.
    pub id: Option<String>,
    /// `kind`, `subject`, `data`, `at`.
    pub data: Value,
}

impl Event {
    /// What happened.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.data["kind"].as_str().unwrap_or_default()
    }

    /// The id of what it is about.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.data["subject"].as_str().unwrap_or_default()
    }
}

/// A stream of events from the moment it was opened.
pub struct Events {
    reply: Reply,
    parser: Parser,
    ready: std::collections::VecDeque<Event>,
}

impl Events {
    /// Listens; with `after` from behind that event on.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn open(client: &Client, after: Option<&str>) -> Result<Self, Failure> {
        let call = Call::get(&["events"]).accept("text/event-stream").after_event(after);
        let reply = client.send(&call).await?;
        Ok(Self { reply, parser: Parser::default(), ready: std::collections::VecDeque::new() })
    }

    /// The next event; `None` when the stream ended. Comments that keep the stream alive are passed over.
    ///
    /// # Errors
    /// When the connection breaks, or the server says nothing at all for so long.
    pub async fn next(&mut self, within: Duration) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            match self.reply.chunk(within).await? {
                Some(chunk) => self.parser.push(&chunk, &mut self.ready),
                None => return Ok(None),
            }
        }
    }
}

/// Takes lines apart; holds what is not a whole line yet.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    data: String,
    id: Option<String>,
}

impl Parser {
    fn push(&mut self, bytes: &[u8], events: &mut impl Extend<Event>) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_of_line(&line));
                }
                b'\r' => {}
                byte if self.line.len() < LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn end_of_line(&mut self, line: &[u8]) -> Option<Event> {
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            let document = serde_json::from_str(&data).ok()?;
            return Some(Event { id: self.id.clone(), data: document });
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" => self.id = Some(value.to_owned()),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_split() {
        let stream = b": hello\n\nid: 7\nevent: session.state\ndata: {\"kind\":\"session.state\",\ndata: \"subject\":\"ses_1\"}\n\nid: 8\ndata:{\"kind\":\"x\"}\r\n\r\n";
        for step in [1, 5, stream.len()] {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for piece in stream.chunks(step) {
                parser.push(piece, &mut events);
            }
            assert_eq!(events.len(), 2, "{step}");
            assert_eq!((events[0].kind(), events[0].subject()), ("session.state", "ses_1"));
            assert_eq!(events[1].id.as_deref(), Some("8"));
        }
    }
}
