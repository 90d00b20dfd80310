//! The steps, in their order.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use burstflare_ports::secret::Secret;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

use super::{Smoke, folder, same, same_bytes};
use crate::client::{Call, Client, Origin, open_preview_socket};
use crate::command::{attach, build, ssh};
use crate::credential::Bearer;
use crate::exit::{Exit, Failure};
use crate::table::field;

/// What is read of a process's output.
const OUTPUT: u64 = 64 << 10;
/// Between two looks at a page that is not there yet.
const LOOK: Duration = Duration::from_millis(200);

/// What a step says when nothing went wrong.
#[derive(Debug)]
pub(super) enum Said {
    /// It was done.
    Done(String),
    /// It could not be done here, and why that is no fault of the server.
    Skipped(String),
}

/// One step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Server,
    SignIn,
    Template,
    Upload,
    Build,
    Promote,
    Session,
    Exec,
    Ssh,
    Terminal,
    Files,
    Preview,
    Stop,
    Start,
    Kept,
    Delete,
    Archive,
}

impl Step {
    pub(super) const ALL: [Self; 17] = [
        Self::Server,
        Self::SignIn,
        Self::Template,
        Self::Upload,
        Self::Build,
        Self::Promote,
        Self::Session,
        Self::Exec,
        Self::Ssh,
        Self::Terminal,
        Self::Files,
        Self::Preview,
        Self::Stop,
        Self::Start,
        Self::Kept,
        Self::Delete,
        Self::Archive,
    ];

    /// As it is reported.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::SignIn => "sign-in",
            Self::Template => "template",
            Self::Upload => "upload",
            Self::Build => "build",
            Self::Promote => "promote",
            Self::Session => "session",
            Self::Exec => "exec",
            Self::Ssh => "ssh",
            Self::Terminal => "terminal",
            Self::Files => "files",
            Self::Preview => "preview",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Kept => "kept",
            Self::Delete => "delete",
            Self::Archive => "archive",
        }
    }
}

impl Smoke<'_> {
    pub(super) async fn take(&mut self, step: Step) -> Result<Said, Failure> {
        let name = self.name.clone();
        let said = match step {
            Step::Server => self.server().await?,
            Step::SignIn => self.sign_in().await?,
            Step::Template => {
                self.template = true;
                let made = self.document(&["template", "create", &name]).await?;
                format!("{name}, {}", field(&made, "id"))
            }
            Step::Upload => self.upload().await?,
            Step::Build => {
                let build = self.build.clone().unwrap_or_default();
                let followed = self.heard(&["build", "log", &build, "--follow"]).await;
                if followed.as_ref().is_err_and(|failure| failure.exit == Exit::Failed) {
                    build::show_tail(self.outer, &self.client()?, &build).await;
                }
                followed?;
                self.build = None;
                build
            }
            Step::Promote => {
                let version = self.version.clone();
                let made = self.document(&["template", "promote", &name, &version]).await?;
                format!("release {}", field(&made, "number"))
            }
            Step::Session => {
                self.session = true;
                let made = self.document(&["session", "up", &name, "--template", &name]).await?;
                format!("{}, isolation {}", field(&made, "id"), field(&made, "runtime.isolation"))
            }
            Step::Exec => {
                let built = self.heard(&["exec", &name, "-n", "--", "cat", "built"]).await?;
                same("what the build left", folder::BUILT, &built)?;
                let (code, _) = self.typed(&["exec", &name, "-n", "--", "sh", "-c", "exit 7"]).await?;
                same("the exit code", "7", &code.to_string())?;
                "output and exit code".to_owned()
            }
            Step::Ssh => return self.ssh().await,
            Step::Terminal => {
                let line = "echo the answer is $((6 * 7)); exit\n";
                let (code, screen) = attach::typed(&self.client()?, &name, line).await?;
                if code != 0 || !String::from_utf8_lossy(&screen).contains("the answer is 42") {
                    let seen = String::from_utf8_lossy(&screen);
                    return Err(Failure::new(
                        Exit::Other,
                        format!("the terminal ended with {code} and showed: {seen}"),
                    ));
                }
                "typed, shown, ended".to_owned()
            }
            Step::Files => self.files().await?,
            Step::Preview => return self.preview().await,
            Step::Stop => {
                let slept = self.document(&["session", "stop", &name]).await?;
                if !slept["failure"].is_null() {
                    return Err(Failure::new(Exit::Failed, field(&slept, "failure.message"))
                        .hint(field(&slept, "failure.hint")));
                }
                if slept["snapshot"].is_null() {
                    return Err(Failure::new(Exit::Failed, "the session sleeps without a snapshot"));
                }
                format!("snapshot {}", field(&slept, "snapshot"))
            }
            Step::Start => {
                let woken = self.document(&["session", "start", &name]).await?;
                format!("life {} of its machine", field(&woken, "epoch"))
            }
            Step::Kept => {
                self.fetch("kept").await?;
                "the file is as it was".to_owned()
            }
            Step::Delete => {
                self.heard(&["session", "delete", &name]).await?;
                self.session = false;
                "with its snapshots".to_owned()
            }
            Step::Archive => {
                self.heard(&["template", "archive", &name]).await?;
                self.template = false;
                name
            }
        };
        Ok(Said::Done(said))
    }

    async fn server(&mut self) -> Result<String, Failure> {
        let client = Client::new(self.origin.clone(), Bearer::Nobody);
        let about = client.json(&Call::get(&["server"]).anonymous()).await?;
        client.json(&Call::probe("/readyz")).await?;
        Ok(format!(
            "{}, version {}, machines by {}",
            self.origin,
            field(&about, "version"),
            field(&about, "runtime.name")
        ))
    }

    async fn sign_in(&mut self) -> Result<String, Failure> {
        let given = self.outer.given_token()?.is_some();
        if self.email.is_none() && (given || self.outer.store()?.knows(&self.origin)?) {
            let me = self.document(&["auth", "whoami"]).await?;
            return Ok(format!("{} in {}", field(&me, "user.email"), field(&me, "workspace.name")));
        }
        if given {
            return Err(Failure::usage("--email makes an account, and FLARE_TOKEN is one")
                .hint("Unset FLARE_TOKEN, or leave --email away."));
        }
        let email = self.email.clone().unwrap_or_else(|| format!("{}@example.com", self.name));
        self.context = self.outer.hearing(&self.origin, Some(self.config_dir()));
        let made = self.document(&["auth", "register", "--email", &email]).await;
        let sign_in = format!("Sign in first, and run it again: `flare auth login --url {}`.", self.origin);
        let made = made.map_err(|failure| match failure.exit {
            Exit::Auth => Failure { hint: Some(sign_in.clone()), ..failure },
            _ => failure,
        })?;
        if made["recovery_codes"].is_null() {
            return Err(Failure::new(Exit::Unsupported, "this server proves addresses by mail").hint(sign_in));
        }
        self.own_account = true;
        Ok(format!("an account of its own, {email}"))
    }

    async fn upload(&mut self) -> Result<String, Failure> {
        let (name, dir) = (self.name.clone(), self.path("folder"));
        folder::write(&dir, self.port).map_err(|error| Failure::local(dir.display(), error))?;
        let dir = dir.to_string_lossy();
        let version = self.document(&["template", "upload", &name, "--version", "1", "--dir", &dir]).await?;
        self.version = field(&version, "id");
        self.build = version["build_id"].as_str().map(str::to_owned);
        Ok(format!("version {}", self.version))
    }

    /// A command by the real OpenSSH, as `flare ssh` runs it.
    async fn ssh(&mut self) -> Result<Said, Failure> {
        if ssh::find_program("ssh").is_none() {
            return Ok(Said::Skipped("OpenSSH's client `ssh` is not installed here".to_owned()));
        }
        let exe =
            std::env::current_exe().map_err(|error| Failure::local("cannot find this program", error))?;
        let remote = "cat built; exit 7";
        self.line = format!("flare ssh {} -- '{remote}'", self.name);
        let mut command = Command::new(exe);
        command.arg("--url").arg(self.origin.to_string()).arg("--config-dir").arg(self.context.config_dir()?);
        command.args(["--quiet", "ssh", &self.name, "--", remote]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let failed = |error| Failure::local("cannot run ssh", error);
        let mut child = command.spawn().map_err(failed)?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read_out = async {
            if let Some(stdout) = stdout {
                stdout.take(OUTPUT).read_to_end(&mut out).await?;
            }
            Ok(())
        };
        let read_err = async {
            if let Some(stderr) = stderr {
                stderr.take(OUTPUT).read_to_end(&mut err).await?;
            }
            Ok(())
        };
        let status = async { child.wait().await };
        let ((), (), status) = tokio::try_join!(read_out, read_err, status).map_err(failed)?;
        let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
        if status.code() != Some(7) || out != folder::BUILT {
            let message =
                format!("ssh ended with {status}, expected exit code 7; it printed `{}`", out.trim());
            return Err(Failure::new(Exit::Other, message).hint(err.trim().to_owned()));
        }
        Ok(Said::Done("OpenSSH: output and exit code".to_owned()))
    }

    /// A file there and back; it stays for the step after the sleep.
    async fn files(&mut self) -> Result<String, Failure> {
        let bytes = folder::payload();
        let file = self.path("sent");
        fs::write(&file, &bytes).map_err(|error| Failure::local(file.display(), error))?;
        let target = format!("{}:~/kept", self.name);
        self.heard(&["cp", &file.to_string_lossy(), &target]).await?;
        self.fetch("back").await?;
        Ok(format!("{} there and back", crate::text::bytes(bytes.len() as u64)))
    }

    async fn fetch(&mut self, local: &str) -> Result<(), Failure> {
        let file = self.path(local);
        let source = format!("{}:~/kept", self.name);
        self.heard(&["cp", &source, &file.to_string_lossy()]).await?;
        same_bytes("the file", &file, &folder::payload())
    }

    /// The page and the WebSocket that the session serves, at the preview's own host.
    async fn preview(&mut self) -> Result<Said, Failure> {
        let (name, port) = (self.name.clone(), self.port.to_string());
        let (code, _) = self.typed(&["exec", &name, "-n", "--", "sh", "-c", "command -v python3"]).await?;
        if code != 0 {
            return Ok(Said::Skipped("the session has no python3 to serve a page with".to_owned()));
        }
        let opened = match self.document(&["open", &name, &port, "--print"]).await {
            Err(failure) if failure.exit == Exit::Unsupported => return Ok(Said::Skipped(failure.message)),
            other => other?,
        };
        let token = Secret::new(field(&self.document(&["auth", "token"]).await?, "token"));
        let client = Client::new(preview_origin(&opened)?, Bearer::Nobody);
        self.line = format!("flare open {name} {port}");
        let end = Instant::now() + self.limit / 2;
        let page = Call::probe("/").visitor(token.clone());
        // The program that serves it may take a moment to listen.
        let text = loop {
            match client.send(&page).await {
                Err(failure) if failure.exit == Exit::Unavailable && Instant::now() < end => {
                    sleep(LOOK).await;
                }
                reply => break reply?.bytes().await?,
            }
        };
        same("the page", folder::BUILT, &String::from_utf8_lossy(&text))?;
        let mut socket = open_preview_socket(&client, "/", &token).await?;
        let broke = || Failure::new(Exit::Unavailable, "the preview's WebSocket broke");
        socket.sink.send(Message::text(&name)).await.map_err(|_| broke())?;
        loop {
            match socket.stream.next().await {
                Some(Ok(Message::Text(said))) => {
                    same("the WebSocket", &name, said.as_str())?;
                    break;
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return Err(broke()),
            }
        }
        Ok(Said::Done(format!("page and WebSocket at {}", client.origin())))
    }
}

/// Scheme and host of an address that leads into a preview.
fn preview_origin(opened: &Value) -> Result<Origin, Failure> {
    let url = opened["url"].as_str().unwrap_or_default();
    let end = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
    Origin::parse(url.get(..end).unwrap_or_default())
}
