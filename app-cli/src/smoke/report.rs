//! A line per step, or an object.

use std::time::Duration;

use serde_json::{Value, json};

use super::step::Said;
use crate::context::Context;
use crate::exit::Failure;
use crate::output::{Paint, clean};

/// Tells what became of each step, as soon as it is known.
#[derive(Debug)]
pub struct Report<'a> {
    context: &'a Context,
}

impl<'a> Report<'a> {
    /// To the caller's output.
    #[must_use]
    pub fn new(context: &'a Context) -> Self {
        Self { context }
    }

    pub(super) fn said(&self, step: &str, took: Duration, said: &Said) {
        let (state, paint, detail) = match said {
            Said::Done(detail) => ("ok", Paint::Good, detail),
            Said::Skipped(why) => ("skipped", Paint::Warn, why),
        };
        self.line(step, state, paint, took, detail, |_| {});
    }

    pub(super) fn failed(&self, step: &str, took: Duration, failure: &Failure, line: &str) {
        self.line(step, "failed", Paint::Bad, took, &failure.message, |document| {
            document["error"] = json!({
                "code": failure.code,
                "message": failure.message,
                "hint": failure.hint,
                "request_id": failure.request_id,
            });
            document["line"] = json!(line);
        });
    }

    fn line(
        &self,
        step: &str,
        state: &str,
        paint: Paint,
        took: Duration,
        detail: &str,
        more: impl FnOnce(&mut Value),
    ) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut document = json!({ "step": step, "state": state, "ms": ms, "detail": detail });
        more(&mut document);
        self.context.output.result(&document, || {
            let mark = self.context.output.paint(paint, &format!("{state:<7}"));
            format!("{mark} {ms:>7} ms  {step:<9} {}", clean(detail).replace('\n', " "))
        });
    }
}
