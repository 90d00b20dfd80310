//! Files of a running session, by path. The agent does the work beneath the machine's roots; here it is decided who
//! may, and what its refusals mean.

use std::time::Duration;

use burstflare_ports::record::{Session, VersionSpec};
use burstflare_ports::store::{ChangeSet, Family};
use burstflare_ports::stream::{Body, ByteStream};
use burstflare_ports::wire::files::{
    ArchiveReceived, FileChange, FileInfo, FileKind, FolderPage, Found, KIND_HEADER,
};
use burstflare_ports::wire::{Metrics, Refusal, UNKNOWN_CALL};
use http::{HeaderMap, Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::agent::{call, with_json};
use super::{Caller, ControlPlane, refusal};
use crate::error::{Error, Kind, Result};

/// For calls that answer at once, a search included.
const QUICK: Duration = Duration::from_secs(30);
/// For calls that look at or delete many files.
const SLOW: Duration = Duration::from_secs(120);
/// For a body of any size; both of its ends give up on the other's silence long before.
const LONG: Duration = Duration::from_secs(24 * 3600);
/// The largest document that is read into memory.
const DOCUMENT: usize = 16 << 20;
/// Bytes of a path in an audit line.
const SHOWN: usize = 512;
/// Bytes of one file that is written.
pub const FILE_LIMIT: u64 = 64 << 30;

/// What is to be read.
#[derive(Debug, Clone, Default)]
pub struct ReadFile {
    /// Where, in the text form of [`burstflare_ports::wire::path`].
    pub path: String,
    /// Whether only what is known of it is wanted.
    pub stat: bool,
    /// Names of a folder's page.
    pub limit: Option<usize>,
    /// The name behind which a folder's page begins.
    pub after: Option<String>,
}

/// What is there.
#[derive(Debug)]
pub enum FileAnswer {
    /// A file: status, headers and bytes are the agent's.
    Bytes(Response<Body>),
    /// A folder's page.
    Folder(FolderPage),
    /// What is known of it.
    Info(FileInfo),
}

/// Where bytes are to be written, and how.
#[derive(Debug, Clone, Default)]
pub struct WriteFile {
    /// Where.
    pub path: String,
    /// Permission bits, 0 to 0o777; otherwise those that are there, or 0o644.
    pub mode: Option<u32>,
    /// Modification time in nanoseconds since 1970; otherwise now.
    pub mtime_ns: Option<i64>,
    /// Whether folders on the way are made.
    pub parents: bool,
}

/// What is searched for; at least one of `name` and `text`.
#[derive(Debug, Clone, Default)]
pub struct SearchFiles {
    /// Below which folder; the first root unless named.
    pub path: Option<String>,
    /// A pattern of names.
    pub name: Option<String>,
    /// A text in files.
    pub text: Option<String>,
    /// Hits at most.
    pub limit: Option<usize>,
}

impl ControlPlane {
    /// Reads a file or a folder. `headers` may hold `Range`, `If-Range`, `If-Match` and `If-None-Match`.
    ///
    /// # Errors
    /// `not_running`, `Forbidden`, what the agent refuses.
    pub async fn read_file(
        &self,
        caller: &Caller,
        session: &str,
        wish: &ReadFile,
        headers: HeaderMap,
    ) -> Result<FileAnswer> {
        let session = self.running(caller, session).await?;
        let mut query = Query::new(&wish.path);
        query.flag("stat", wish.stat);
        query.maybe("limit", wish.limit);
        query.maybe("after", wish.after.as_ref());
        let path = query.onto("/v1/files");
        let response = self.file_call(&session, Method::GET, &path, headers, Body::empty(), SLOW).await?;
        let kind = response.headers().get(KIND_HEADER).map(http::HeaderValue::as_bytes);
        if wish.stat {
            return document(response).await.map(FileAnswer::Info);
        }
        if kind == Some(FileKind::Folder.word().as_bytes()) {
            return document(response).await.map(FileAnswer::Folder);
        }
        Ok(FileAnswer::Bytes(response))
    }

    /// Writes a whole file, at once or not at all. `headers` may hold `If-Match` and `If-None-Match`.
    ///
    /// # Errors
    /// `changed` for a condition that does not hold; otherwise as [`ControlPlane::read_file`].
    pub async fn write_file(
        &self,
        caller: &Caller,
        session: &str,
        wish: &WriteFile,
        headers: HeaderMap,
        bytes: ByteStream,
    ) -> Result<FileInfo> {
        let session = self.running(caller, session).await?;
        self.audit_file(caller, &session, "session.file.write", json!({ "path": shown(&wish.path) })).await?;
        let mut query = Query::new(&wish.path);
        query.maybe("mode", wish.mode.map(|mode| format!("{mode:o}")));
        query.maybe("mtime_ns", wish.mtime_ns);
        query.flag("parents", wish.parents);
        let path = query.onto("/v1/files");
        let body = Body::Stream(bytes);
        document(self.file_call(&session, Method::PUT, &path, headers, body, LONG).await?).await
    }

    /// Makes a folder, or renames.
    ///
    /// # Errors
    /// As [`ControlPlane::read_file`].
    pub async fn change_file(&self, caller: &Caller, session: &str, wish: &FileChange) -> Result<FileInfo> {
        let session = self.running(caller, session).await?;
        let detail = match wish {
            FileChange::Mkdir { path, .. } => json!({ "action": "mkdir", "path": shown(path) }),
            FileChange::Rename { path, to, .. } => {
                json!({ "action": "rename", "path": shown(path), "to": shown(to) })
            }
        };
        self.audit_file(caller, &session, "session.file.change", detail).await?;
        let request = with_json(Method::POST, "/v1/files", wish)?;
        document(self.sent(&session, request, QUICK).await?).await
    }

    /// Deletes a file or folder; one that holds something only if `recursive`. `headers` may hold `If-Match`.
    ///
    /// # Errors
    /// As [`ControlPlane::write_file`]; `unfinished` where one call does not do.
    pub async fn delete_file(
        &self,
        caller: &Caller,
        session: &str,
        path: &str,
        recursive: bool,
        headers: HeaderMap,
    ) -> Result<()> {
        let session = self.running(caller, session).await?;
        let detail = json!({ "path": shown(path), "recursive": recursive });
        self.audit_file(caller, &session, "session.file.delete", detail).await?;
        let mut query = Query::new(path);
        query.flag("recursive", recursive);
        let path = query.onto("/v1/files");
        self.file_call(&session, Method::DELETE, &path, headers, Body::empty(), SLOW).await.map(drop)
    }

    /// Searches names and contents.
    ///
    /// # Errors
    /// As [`ControlPlane::read_file`].
    pub async fn search_files(&self, caller: &Caller, session: &str, wish: &SearchFiles) -> Result<Found> {
        let session = self.running(caller, session).await?;
        let mut query = Query::empty();
        query.maybe("path", wish.path.as_ref());
        query.maybe("name", wish.name.as_ref());
        query.maybe("text", wish.text.as_ref());
        query.maybe("limit", wish.limit);
        let path = query.onto("/v1/search");
        document(self.file_call(&session, Method::GET, &path, HeaderMap::new(), Body::empty(), QUICK).await?)
            .await
    }

    /// A folder as an archive; the body is the agent's.
    ///
    /// # Errors
    /// As [`ControlPlane::read_file`].
    pub async fn read_archive(&self, caller: &Caller, session: &str, path: &str) -> Result<Response<Body>> {
        let session = self.running(caller, session).await?;
        let path = Query::new(path).onto("/v1/archive");
        self.file_call(&session, Method::GET, &path, HeaderMap::new(), Body::empty(), SLOW).await
    }

    /// Unpacks an archive into a folder.
    ///
    /// # Errors
    /// As [`ControlPlane::write_file`].
    pub async fn write_archive(
        &self,
        caller: &Caller,
        session: &str,
        path: &str,
        bytes: ByteStream,
    ) -> Result<ArchiveReceived> {
        let session = self.running(caller, session).await?;
        self.audit_file(caller, &session, "session.file.unpack", json!({ "path": shown(path) })).await?;
        let path = Query::new(path).onto("/v1/archive");
        let body = Body::Stream(bytes);
        document(self.file_call(&session, Method::PUT, &path, HeaderMap::new(), body, LONG).await?).await
    }

    /// What a session's machine uses, and what it was promised.
    ///
    /// # Errors
    /// As [`ControlPlane::read_file`].
    pub async fn metrics(&self, caller: &Caller, session: &str) -> Result<(Metrics, Option<VersionSpec>)> {
        let session = self.running(caller, session).await?;
        let response = self
            .file_call(&session, Method::GET, "/v1/metrics", HeaderMap::new(), Body::empty(), QUICK)
            .await?;
        let metrics = document(response).await?;
        let version = self.store().version(session.workspace, session.version).await?;
        Ok((metrics, version.and_then(|version| version.spec)))
    }

    async fn audit_file(
        &self,
        caller: &Caller,
        session: &Session,
        action: &str,
        mut detail: Value,
    ) -> Result<()> {
        detail["epoch"] = json!(session.epoch);
        let mut change = ChangeSet::new(Family::Workspace(session.workspace));
        change.audit.push(caller.audit(self, action, session.id, detail));
        self.commit(change).await.map_err(refusal)
    }

    /// Sends a call with these headers.
    async fn file_call(
        &self,
        session: &Session,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
        deadline: Duration,
    ) -> Result<Response<Body>> {
        let mut request = call(method, path, body)?;
        *request.headers_mut() = headers;
        self.sent(session, request, deadline).await
    }

    /// Sends a call to a session's agent; its refusals become ours.
    pub(super) async fn sent(
        &self,
        session: &Session,
        request: http::Request<Body>,
        deadline: Duration,
    ) -> Result<Response<Body>> {
        let target = self.target(session)?;
        let response = match self.ports().agents.send(&target, request, deadline).await {
            Ok(response) => response,
            Err(error) => return Err(self.unanswered(session, error).await),
        };
        let status = response.status();
        let fine = status.is_success()
            || matches!(status, StatusCode::NOT_MODIFIED | StatusCode::RANGE_NOT_SATISFIABLE);
        if fine {
            return Ok(response);
        }
        let bytes = response.into_body().collect(64 << 10, "agent").await.unwrap_or_default();
        let refused = serde_json::from_slice::<Refusal>(&bytes).ok();
        Err(refused.map_or_else(|| unknown(status.as_str()), |refused| meaning(&refused)))
    }
}

async fn document<T: DeserializeOwned>(response: Response<Body>) -> Result<T> {
    let bytes = response.into_body().collect(DOCUMENT, "agent").await?;
    serde_json::from_slice(&bytes).map_err(|_| unknown("an answer that is not understood"))
}

fn unknown(what: &str) -> Error {
    Error::new(
        Kind::Unavailable,
        "agent_refused",
        format!("The session's machine refused that: {what}."),
        "Look at the session: `flare session show`; then try again.",
    )
}

/// The agent's codes, what they are for us, and what to do.
const REFUSALS: [(&str, Kind, &str); 19] = [
    ("no_such_file", Kind::NotFound, "Look what is there: list the folder."),
    ("outside", Kind::Forbidden, "Paths lie below /workspace and /home/flare, and so do the links on them."),
    ("denied", Kind::Forbidden, "Change its mode in the session: `chmod`."),
    ("is_folder", Kind::Conflict, "Name a file, or say that the folder is meant."),
    ("not_folder", Kind::Conflict, "Check the path."),
    ("not_file", Kind::Conflict, "Pipes, sockets and devices are neither read nor written."),
    ("is_link", Kind::Conflict, "Name what the link points to."),
    ("is_root", Kind::Conflict, "Name something in it."),
    ("exists", Kind::Conflict, "Choose another name, or ask for it to be replaced."),
    ("not_empty", Kind::Conflict, "Ask for everything in it to be deleted: `recursive=true`."),
    ("in_use", Kind::Conflict, "Try again when it is not."),
    ("unfinished", Kind::Conflict, "Send the same request again: it goes on."),
    ("changed", Kind::Precondition, "Read it again, merge, and write with the new entity tag."),
    ("invalid", Kind::Invalid, "Correct the request and send it again."),
    ("corrupt", Kind::Invalid, "Send it again as it is meant."),
    ("too_large", Kind::TooLarge, "Send less at once."),
    ("full", Kind::Full, "The session's disk is full: delete something in it."),
    ("busy", Kind::Unavailable, "Try again in a moment."),
    ("not_supported", Kind::Unsupported, "Restart the session: `flare session restart`."),
];

fn meaning(refused: &Refusal) -> Error {
    match refused.code.as_str() {
        "stale_epoch" | "unauthorized" => moved_on(),
        // Calls have no names that come and go: this agent is older than the call.
        UNKNOWN_CALL | "not_found" => too_old(),
        code => match REFUSALS.iter().find(|(known, ..)| *known == code) {
            Some((code, kind, hint)) => Error::new(*kind, code, refused.message.clone(), *hint),
            None => unknown(&refused.message),
        },
    }
}

/// An agent that was started by an older version.
pub(super) fn too_old() -> Error {
    Error::new(
        Kind::Unsupported,
        "not_supported",
        "The session's machine was started by an older version, which cannot do that.",
        "Restart the session: `flare session restart` gives it the server's present version.",
    )
}

/// Another life's agent: it was restarted since the session was looked up.
pub(super) fn moved_on() -> Error {
    Error::conflict(
        "not_running",
        "The session's machine was ended or started anew in this moment.",
        "Try again: `flare session start` waits until it runs.",
    )
}

fn shown(path: &str) -> &str {
    path.get(..path.floor_char_boundary(SHOWN)).unwrap_or_default()
}

/// Parameters of a call.
struct Query(String);

impl Query {
    fn empty() -> Self {
        Self(String::new())
    }

    fn new(path: &str) -> Self {
        let mut query = Self::empty();
        query.maybe("path", Some(path));
        query
    }

    fn maybe(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            if !self.0.is_empty() {
                self.0.push('&');
            }
            self.0.push_str(name);
            self.0.push('=');
            self.0.extend(form_urlencoded::byte_serialize(value.to_string().as_bytes()));
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.maybe(name, value.then_some("true"));
    }

    fn onto(self, path: &str) -> String {
        format!("{path}?{}", self.0)
    }
}
