//! `flare cp`: files and folders between this machine and sessions, or between two sessions.

use std::ffi::OsString;

use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::copy::{self, End};
use crate::exit::{Exit, Failure, Outcome};

/// What to copy where.
#[derive(Debug, Args)]
#[command(after_help = "\
A path of a session is written SESSION:path; it begins at /workspace unless it is absolute, and ~/ is the session's home.
`-` is standard input or output. A local name with a colon is written ./a:b.

As with cp, what is copied to a folder that exists goes into it under its own name; `FOLDER/.` copies what is in it. Modes,
times and links are kept. Links that lead out of the folder, devices and set-id bits are left out, in both directions, and
told. Whatever breaks off leaves nothing half behind.")]
pub struct Cp {
    /// What: a path, SESSION:path, or -.
    #[arg(value_name = "SRC")]
    from: OsString,
    /// Where to.
    #[arg(value_name = "DST")]
    to: OsString,
    /// Copies a folder with everything in it.
    #[arg(long, short)]
    recursive: bool,
}

/// Runs `flare cp`.
///
/// # Errors
/// When it does not come about, or something was left out.
pub async fn run(context: &Context, args: &Cp) -> Outcome {
    let (from, to) = (End::parse(&args.from), End::parse(&args.to));
    if !matches!((&from, &to), (End::Remote { .. }, _) | (_, End::Remote { .. })) {
        return Err(Failure::usage("neither SRC nor DST is in a session")
            .hint("A path of a session is written SESSION:path, such as `flare cp notes.txt sandbox:`."));
    }
    let copied = copy::copy(context, &from, &to, args.recursive).await?;
    for why in &copied.why {
        context.output.warn(&format!("left out: {why}"));
    }
    if to != End::Standard {
        let document = json!({
            "entries": copied.entries, "bytes": copied.bytes, "skipped": copied.skipped, "why": copied.why,
        });
        context.output.result(&document, String::new);
    }
    if copied.skipped > 0 {
        return Err(Failure::new(
            Exit::Other,
            format!("{} entries were left out; the rest was copied", copied.skipped),
        ));
    }
    Ok(0)
}
