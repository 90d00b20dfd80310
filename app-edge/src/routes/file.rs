use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH,
    IF_NONE_MATCH, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;
use burstflare_core::service::{FILE_LIMIT, FileAnswer, List, ReadFile, SearchFiles, WriteFile};
use burstflare_ports::error::{ErrorKind, PortError};
use burstflare_ports::stream;
use burstflare_ports::wire::files::{FileInfo, KIND_HEADER, MODE_HEADER, MTIME_HEADER};
use futures_util::StreamExt;

use crate::body;
use crate::cursor::Listing;
use crate::extract::{Authenticated, Json, Params, nothing, ok};
use crate::problem::{Answer, Refusal};
use crate::query::Query;
use crate::resource::{ChangeFile, File, FilesFound, FilesUnpacked, Page};
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    let attach = Access::Bearer(Action::SessionAttach);
    table
        .add(__path_read, attach, Accepts::Nothing, read)
        .add(__path_write, attach, Accepts::Bytes, write)
        .add(__path_delete, attach, Accepts::Nothing, delete)
        .add(__path_change, attach, Accepts::Json, change)
        .add(__path_pack, attach, Accepts::Nothing, pack)
        .add(__path_unpack, attach, Accepts::Bytes, unpack)
        .add(__path_search, attach, Accepts::Nothing, search)
}

/// Read a file (with `Range`, `If-Range`, `If-Match`, `If-None-Match`), or list a folder. The header
/// `flare-file-kind` tells which it is; `flare-file-mode` and `flare-file-mtime` (nanoseconds) go with it.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/files", tag = "files",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("path" = Option<String>, Query, description = "Absolute, or from /workspace on; /workspace itself unless given"),
        ("stat" = Option<bool>, Query, description = "Answer what is known of it instead of its content; a link is not followed"),
        ("limit" = Option<u16>, Query, description = "Names of a folder at most, 1 to 200; 50 unless asked otherwise"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")
    ),
    responses(
        (status = 200, description = "A file's bytes, or a folder's page; with `stat` a `File`", content(
            (Vec<u8> = "application/octet-stream"),
            (Page<File> = "application/json"))),
        (status = 206, description = "The range that was asked for"),
        (status = 304, description = "What the caller has is what is there"),
        (status = 416, description = "Nothing of the file lies in that range")))]
async fn read(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    mut query: Query,
    headers: HeaderMap,
) -> Answer<Response> {
    let path = query.text("path")?.unwrap_or_else(|| ".".to_owned());
    let stat = query.flag("stat")?;
    let listing = Listing::new(&caller, &format!("files/{session}/{:x}", short(&path)));
    let page = listing.query::<Name>(&mut query)?;
    query.finish()?;
    let wish = ReadFile { path, stat, limit: Some(page.limit), after: page.after.map(|name| name.0) };
    let headers = chosen(&headers, &[RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH]);
    match plane.read_file(&caller, &session, &wish, headers).await? {
        FileAnswer::Bytes(answer) => Ok(bytes(answer)),
        FileAnswer::Folder(page) => {
            let info = page.folder.clone();
            let next = page.next.map(Name);
            let list = List { items: page.items, next };
            describe(ok(&listing.page::<_, File, _>(list))?, &info)
        }
        FileAnswer::Info(info) => about(&info),
    }
}

/// Write a whole file: nobody sees half of it. `If-Match` makes sure that it is still what was read,
/// `If-None-Match: *` that there is none; otherwise the answer is 412 `changed`.
#[utoipa::path(put, path = "/api/v1/sessions/{session}/files", tag = "files",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("path" = String, Query, description = "Absolute, or from /workspace on"),
        ("mode" = Option<String>, Query, description = "Permission bits, octal; otherwise as before, or 644"),
        ("mtime_ns" = Option<i64>, Query, description = "Modification time in nanoseconds since 1970; otherwise now"),
        ("parents" = Option<bool>, Query, description = "Make the folders on the way")
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = File)))]
async fn write(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    mut query: Query,
    headers: HeaderMap,
    content: Body,
) -> Answer<Response> {
    let path = needed(&mut query)?;
    let mode = query.text("mode")?.map(|text| {
        let octal = text.len() <= 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| octal && *mode <= 0o777);
        mode.ok_or_else(|| Refusal::invalid("mode", "mode is octal, 0 to 777"))
    });
    let wish = WriteFile {
        path,
        mode: mode.transpose()?,
        mtime_ns: query.number("mtime_ns")?,
        parents: query.flag("parents")?,
    };
    query.finish()?;
    let headers = chosen(&headers, &[IF_MATCH, IF_NONE_MATCH]);
    let content = body::inbound(content, plane.ports().clock.clone()).into_stream();
    let info = plane.write_file(&caller, &session, &wish, headers, bounded(content)).await?;
    about(&info)
}

/// Delete a file, a link, or a folder; a folder that holds something with `recursive=true`.
#[utoipa::path(delete, path = "/api/v1/sessions/{session}/files", tag = "files",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("path" = String, Query, description = "Absolute, or from /workspace on"),
        ("recursive" = Option<bool>, Query, description = "Delete what is in it, too")
    ),
    responses((status = 204, description = "It is gone")))]
async fn delete(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    mut query: Query,
    headers: HeaderMap,
) -> Answer<Response> {
    let path = needed(&mut query)?;
    let recursive = query.flag("recursive")?;
    query.finish()?;
    let headers = chosen(&headers, &[IF_MATCH, IF_NONE_MATCH]);
    plane.delete_file(&caller, &session, &path, recursive, headers).await?;
    nothing()
}

/// Make a folder, or rename.
#[utoipa::path(post, path = "/api/v1/sessions/{session}/files", tag = "files",
    params(("session" = String, Path, description = "Id or name of the session")),
    request_body = ChangeFile, responses((status = 200, body = File)))]
async fn change(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    Json(wish): Json<ChangeFile>,
) -> Answer<Response> {
    about(&plane.change_file(&caller, &session, &wish.into()).await?)
}

/// A folder with everything in it, as a tar: the folder itself as `.`, then its content.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/archive", tag = "files",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("path" = String, Query, description = "The folder; absolute, or from /workspace on")
    ),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
async fn pack(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    mut query: Query,
) -> Answer<Response> {
    let path = needed(&mut query)?;
    query.finish()?;
    Ok(bytes(plane.read_archive(&caller, &session, &path).await?))
}

/// Unpack a tar into a folder, which is made where it is missing. It is unpacked beside its place first, so one that
/// breaks off changes nothing. What may not be there (devices, links that lead out, files in the place of folders) is left
/// out and told.
#[utoipa::path(put, path = "/api/v1/sessions/{session}/archive", tag = "files",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("path" = String, Query, description = "The folder; absolute, or from /workspace on")
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = FilesUnpacked)))]
async fn unpack(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    mut query: Query,
    content: Body,
) -> Answer<Response> {
    let path = needed(&mut query)?;
    query.finish()?;
    let content = body::inbound(content, plane.ports().clock.clone()).into_stream();
    let unpacked = plane.write_archive(&caller, &session, &path, bounded(content)).await?;
    ok(&FilesUnpacked::from(unpacked))
}

/// Search names by a pattern (`*`, `?`, `[a-z]`), files for a text, or both. It is bounded; `cut` says by what.
#[utoipa::path(get, path = "/api/v1/sessions/{session}/search", tag = "files",
    params(
        ("session" = String, Path, description = "Id or name of the session"),
        ("path" = Option<String>, Query, description = "The folder to begin at; /workspace unless given"),
        ("name" = Option<String>, Query, description = "A pattern of names"),
        ("text" = Option<String>, Query, description = "A text, byte for byte; the first 8 MiB of each file are searched"),
        ("limit" = Option<u16>, Query, description = "Hits at most, 1 to 1000; 200 unless asked otherwise")
    ),
    responses((status = 200, body = FilesFound)))]
async fn search(
    State(plane): State<ControlPlane>,
    Authenticated(caller): Authenticated,
    Params(session): Params<String>,
    mut query: Query,
) -> Answer<Response> {
    let wish = SearchFiles {
        path: query.text("path")?,
        name: query.text("name")?,
        text: query.text("text")?,
        limit: query.number("limit")?,
    };
    query.finish()?;
    if wish.limit.is_some_and(|limit| limit == 0 || limit > 1000) {
        return Err(Refusal::invalid("limit", "limit is 1 to 1000"));
    }
    if wish.name.is_none() && wish.text.is_none() {
        return Err(Refusal::invalid("name", "a search needs name or text"));
    }
    ok(&FilesFound::from(plane.search_files(&caller, &session, &wish).await?))
}

/// Stands for a path in a cursor.
fn short(path: &str) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

fn needed(query: &mut Query) -> Answer<String> {
    query.text("path")?.ok_or_else(|| Refusal::invalid("path", "the parameter path is missing"))
}

/// Headers that the agent is to see, and no others.
fn chosen(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut chosen = HeaderMap::new();
    for name in names {
        for value in headers.get_all(name) {
            chosen.append(name, value.clone());
        }
    }
    chosen
}

/// A file's bytes. They are somebody's own: never shown as a page, never guessed at.
fn bytes(answer: axum::http::Response<stream::Body>) -> Response {
    let (head, content) = answer.into_parts();
    let mut response = Response::new(body::outbound(content));
    *response.status_mut() = head.status;
    let headers = response.headers_mut();
    let ours = [KIND_HEADER, MODE_HEADER, MTIME_HEADER].map(HeaderName::from_static);
    *headers = chosen(&head.headers, &ours);
    headers.extend(chosen(&head.headers, &[ETAG, ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE]));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    response
}

fn about(info: &FileInfo) -> Answer<Response> {
    let response = ok(&File::from(info.clone()))?;
    describe(response, info)
}

fn describe(mut response: Response, info: &FileInfo) -> Answer<Response> {
    let mut set = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            response.headers_mut().insert(name, value);
        }
    };
    set(HeaderName::from_static(KIND_HEADER), info.kind.word());
    set(HeaderName::from_static(MODE_HEADER), &format!("{:o}", info.mode));
    set(HeaderName::from_static(MTIME_HEADER), &info.mtime_ns.to_string());
    if let Some(etag) = &info.etag {
        set(ETAG, etag);
    }
    Ok(response)
}

/// Ends a body that is longer than any file may be.
fn bounded(content: stream::ByteStream) -> stream::ByteStream {
    let mut left = FILE_LIMIT;
    Box::pin(content.map(move |chunk| {
        let chunk = chunk?;
        left = left.checked_sub(chunk.len() as u64).ok_or_else(|| {
            PortError::new(
                ErrorKind::TooLarge,
                "request.body",
                format!("a file has at most {FILE_LIMIT} bytes"),
            )
        })?;
        Ok(chunk)
    }))
}

/// A name as it stands in a cursor, which has slashes of its own and ends at none of them.
struct Name(String);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}
