//! The main job once, against a server: the lines that a person types, run by the code that runs them when they are typed.

#![expect(
    clippy::future_not_send,
    reason = "the client runs on one thread, and what runs any line is boxed without Send"
)]

mod folder;
mod report;
mod step;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::timeout;

pub use self::report::Report;
use self::step::{Said, Step};
use crate::cli;
use crate::client::{Client, Origin};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// One run. What it makes at the server is called `smoke-` and eight digits, and is known here before the server is asked
/// for it, so that [`Smoke::clean`] finds it whenever the run ends.
pub struct Smoke<'a> {
    outer: &'a Context,
    context: Context,
    origin: Origin,
    email: Option<String>,
    limit: Duration,
    name: String,
    dir: PathBuf,
    /// The port that the session serves.
    port: u16,
    /// What was typed last.
    line: String,
    own_account: bool,
    template: bool,
    version: String,
    build: Option<String>,
    session: bool,
}

impl<'a> Smoke<'a> {
    /// A run against the server that `outer` names, with a folder of its own on this machine. With `email` it registers
    /// that address instead of using the stored sign-in. Each step may take `limit`.
    ///
    /// # Errors
    /// When no server is named, or the system refuses the folder.
    pub fn new(outer: &'a Context, email: Option<String>, limit: Duration) -> Result<Self, Failure> {
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(|error| Failure::local("no randomness", error))?;
        let [a, b, c, d, port @ ..] = random;
        let name = format!("smoke-{:08x}", u32::from_be_bytes([a, b, c, d]));
        let dir = std::env::temp_dir().join(format!("flare-{name}"));
        // Not recursive: a folder that is there already is somebody else's.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|error| Failure::local(format_args!("cannot make {}", dir.display()), error))?;
        let origin = outer.origin()?;
        Ok(Self {
            outer,
            context: outer.hearing(&origin, None),
            origin,
            email,
            limit,
            name,
            dir,
            port: 20_000 + u16::from_be_bytes(port) % 10_000,
            line: String::new(),
            own_account: false,
            template: false,
            version: String::new(),
            build: None,
            session: false,
        })
    }

    /// Takes every step, until one fails or `stop` is set. Cancel-safe: what was made is known.
    ///
    /// # Errors
    /// What the failing step answers; its name stands in the message.
    pub async fn run(&mut self, report: &Report<'_>, stop: &AtomicBool) -> Result<(), Failure> {
        for step in Step::ALL {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let begun = Instant::now();
            self.line.clear();
            let limit = self.limit;
            let said = timeout(limit, self.take(step)).await.unwrap_or_else(|_| Err(too_long(limit)));
            self.context.output.end_progress();
            match said {
                Ok(said) => report.said(step.name(), begun.elapsed(), &said),
                // Whoever is told to stop has no failures any more; on a terminal Ctrl-C ends our `ssh` as well.
                Err(failure) if stop.load(Ordering::Relaxed) => return Err(failure),
                Err(failure) => {
                    report.failed(step.name(), begun.elapsed(), &failure, &self.line);
                    return Err(Failure {
                        message: format!("{}: {}", step.name(), failure.message),
                        ..failure
                    });
                }
            }
        }
        Ok(())
    }

    /// Removes what is still there, in the order in which it stands in nothing's way. The folder on this machine stays
    /// when the account was our own and something could not be removed: only its sign-in could try again.
    ///
    /// # Errors
    /// The first refusal; the rest was tried all the same.
    pub async fn clean(&mut self, within: Duration, report: &Report<'_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut left = Vec::new();
        let mut first = None;
        let name = self.name.clone();
        let build = self.build.take();
        let work: [(bool, Vec<&str>); 3] = [
            (build.is_some(), vec!["build", "cancel", build.as_deref().unwrap_or_default()]),
            (self.template, vec!["template", "archive", &name]),
            (self.session, vec!["session", "delete", &name]),
        ];
        let removed = work.iter().filter(|(there, _)| *there).count();
        for (there, words) in work {
            if !there {
                continue;
            }
            let spare = within.saturating_sub(begun.elapsed());
            let done = timeout(spare, self.heard(&words)).await.unwrap_or_else(|_| Err(too_long(within)));
            match done {
                // It never came about, or somebody was faster; a build that is over needs no end.
                Err(failure) if failure.exit == Exit::NotFound || words[0] == "build" => {}
                Err(failure) => {
                    left.push(self.line.clone());
                    first.get_or_insert(failure);
                }
                Ok(_) => {}
            }
        }
        if first.is_none() || !self.own_account {
            if self.own_account {
                let spare = within.saturating_sub(begun.elapsed());
                // A sign-in that is not ended expires.
                let _ = timeout(spare, self.heard(&["auth", "logout"])).await;
            }
            let _ = fs::remove_dir_all(&self.dir);
        }
        self.context.output.end_progress();
        let Some(failure) = first else {
            if removed > 0 {
                report.said("clean-up", begun.elapsed(), &Said::Done("what was made is removed".to_owned()));
            }
            return Ok(());
        };
        let place = if self.own_account {
            format!(" --config-dir {}", crate::text::shell_word(&self.config_dir().to_string_lossy()))
        } else {
            String::new()
        };
        let lines: Vec<String> =
            left.iter().map(|line| format!("`{line} --url {}{place}`", self.origin)).collect();
        let failure = Failure {
            message: format!("clean-up: {}", failure.message),
            hint: Some(format!("Remove what is left: {}.", lines.join(", "))),
            ..failure
        };
        report.failed("clean-up", begun.elapsed(), &failure, &left.join("; "));
        Err(failure)
    }

    /// The folder of credentials of an account of our own.
    fn config_dir(&self) -> PathBuf {
        self.dir.join("config")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn client(&self) -> Result<Client, Failure> {
        self.context.client()
    }

    /// Runs a line; answers its exit code and what it printed.
    async fn typed(&mut self, words: &[&str]) -> Result<(u8, String), Failure> {
        self.line = format!("flare {}", words.join(" "));
        let _ = self.context.output.heard();
        let code = cli::line(&self.context, words).await?;
        Ok((code, String::from_utf8_lossy(&self.context.output.heard()).into_owned()))
    }

    /// Runs a line that has to end well.
    async fn heard(&mut self, words: &[&str]) -> Result<String, Failure> {
        match self.typed(words).await? {
            (0, text) => Ok(text),
            (code, text) => Err(Failure::new(Exit::Other, format!("`{}` ended with {code}", self.line))
                .hint(format!("It said: {}", text.trim()))),
        }
    }

    /// Runs a line that has to end well with one document.
    async fn document(&mut self, words: &[&str]) -> Result<Value, Failure> {
        let text = self.heard(words).await?;
        serde_json::from_str(&text).map_err(|_| {
            Failure::new(Exit::Other, "the server's answer is not what this version understands")
        })
    }
}

fn too_long(limit: Duration) -> Failure {
    Failure::new(Exit::Timeout, format!("it took longer than {limit:?}"))
        .hint("Give it more time with `--timeout`; `flare doctor` looks for what is wrong.")
}

/// Text that has to be there.
fn same(what: &str, expected: &str, found: &str) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    let short: String = found.chars().take(200).collect();
    Err(Failure::new(Exit::Other, format!("{what}: expected `{expected}`, found `{short}`")))
}

fn same_bytes(what: &str, path: &Path, expected: &[u8]) -> Result<(), Failure> {
    let found = fs::read(path).map_err(|error| Failure::local(path.display(), error))?;
    if found == expected {
        Ok(())
    } else {
        Err(Failure::new(Exit::Other, format!("{what} came back changed")))
    }
}
