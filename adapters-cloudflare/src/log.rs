//! What the control plane says about itself, on the Worker's console, from where the platform's logs take it.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use worker::{console_error, console_log, console_warn};

/// The longest line, in bytes; the platform cuts off long ones anyway.
const LONGEST: usize = 4_096;

/// One line for each event of level `info` and above: `target: message field=value`.
#[derive(Debug)]
struct ConsoleLog;

/// From now on the console shows what happens in this isolate. Calling it again changes nothing.
pub fn install() {
    // Somebody was first: that is this call, in an earlier event of the isolate.
    let _ = tracing::subscriber::set_global_default(ConsoleLog);
}

impl Subscriber for ConsoleLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{}:", event.metadata().target()));
        event.record(&mut line);
        match *event.metadata().level() {
            Level::ERROR => console_error!("{}", line.0),
            Level::WARN => console_warn!("{}", line.0),
            _ => console_log!("{}", line.0),
        }
    }

    // Spans are not shown, so they need no names.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.0.len() > LONGEST {
            return;
        }
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
