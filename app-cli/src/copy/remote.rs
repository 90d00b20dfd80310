//! A session's end of a copy.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use burstflare_ports::wire::files::{KIND_HEADER, MODE_HEADER, MTIME_HEADER};
use burstflare_ports::wire::path as text_path;
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;

use super::flow::{Flow, FlowBody, flow, next};
use super::progress::Progress;
use super::{Copied, Goal, Kind, Source, goal, last_name, omitted};
use crate::client::{Call, Client, MakePayload, Reply};
use crate::exit::{Exit, Failure};

/// How long the next piece may take.
const PIECE: Duration = Duration::from_secs(120);
/// How long a whole copy may take.
const LONG: Duration = Duration::from_secs(24 * 3600);
const BYTES: &str = "application/octet-stream";

fn files(method: Method, session: &str, room: &str, path: &[u8]) -> Call {
    Call::new(method, &["sessions", session, room]).query("path", &text_path::encode(path))
}

fn kind(reply: &Reply) -> Kind {
    match reply.header(KIND_HEADER) {
        Some("folder") => Kind::Folder,
        Some("file") => Kind::File,
        _ => Kind::Other,
    }
}

/// Something to copy from a session.
pub(super) async fn source(
    client: &Client,
    session: &str,
    path: &[u8],
    recursive: bool,
) -> Result<Source, Failure> {
    let name = last_name(path);
    let call = files(Method::GET, session, "files", path).query("limit", "1").accept("*/*").within(PIECE);
    let reply = client.send(&call).await?;
    let kind = kind(&reply);
    let mode = reply.header(MODE_HEADER).and_then(|text| u32::from_str_radix(text, 8).ok());
    let mtime_ns = reply.header(MTIME_HEADER).and_then(|text| text.parse().ok());
    if kind != Kind::Folder {
        let size = reply.header("content-length").and_then(|text| text.parse().ok());
        return Ok(Source { kind, name, mode, mtime_ns, size, flow: flowing(reply) });
    }
    if !recursive {
        return Err(omitted(&format!("{session}:{}", text_path::encode(path))));
    }
    drop(reply);
    let call = files(Method::GET, session, "archive", path).accept("*/*").within(PIECE);
    let reply = client.send(&call).await?;
    Ok(Source { kind, name, mode, mtime_ns, size: None, flow: flowing(reply) })
}

/// The body of an answer.
fn flowing(mut reply: Reply) -> Flow {
    let (giver, flow) = flow();
    tokio::spawn(async move {
        loop {
            let piece = match reply.chunk(PIECE).await {
                Ok(Some(piece)) if piece.is_empty() => continue,
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => Ok(Bytes::new()),
                Err(failure) => Err(io::Error::other(failure.message)),
            };
            let last = !matches!(&piece, Ok(piece) if !piece.is_empty());
            if giver.send(piece).await.is_err() || last {
                return;
            }
        }
    });
    flow
}

/// What is at a path, if anything.
async fn look(client: &Client, session: &str, path: &[u8]) -> Result<Option<Kind>, Failure> {
    let told = match client.json(&files(Method::GET, session, "files", path).query("stat", "true")).await {
        Ok(told) => told,
        Err(failure) if failure.is("no_such_file") => return Ok(None),
        Err(failure) => return Err(failure),
    };
    Ok(Some(match told["kind"].as_str() {
        Some("folder") => Kind::Folder,
        Some("file") => Kind::File,
        // What a link points to counts; one that leads nowhere or out is written to by nobody.
        Some("link") => {
            let call = files(Method::HEAD, session, "files", path).query("limit", "1").accept("*/*");
            client.send(&call).await.map_or(Kind::Other, |reply| kind(&reply))
        }
        _ => Kind::Other,
    }))
}

/// Puts something in its place in a session.
pub(super) async fn target(
    client: &Client,
    session: &str,
    path: &[u8],
    source: Source,
    progress: &mut Progress<'_>,
) -> Result<Copied, Failure> {
    let text = format!("{session}:{}", text_path::encode(path));
    let found = look(client, session, path).await?;
    let place = match goal(found, path.ends_with(b"/"), &source, &text)? {
        Goal::Here => path.to_vec(),
        Goal::Inside(name) => [path, b"/", &name].concat(),
    };
    let (kind, size) = (source.kind, source.size);
    let mut call = if kind == Kind::Folder {
        files(Method::PUT, session, "archive", &place)
    } else {
        let mut call = files(Method::PUT, session, "files", &place);
        if let Some(mode) = source.mode {
            call = call.query("mode", &format!("{:o}", mode & 0o777));
        }
        if let Some(mtime_ns) = source.mtime_ns {
            call = call.query("mtime_ns", &mtime_ns.to_string());
        }
        call
    };
    // What flows by is counted on its way.
    let (giver, counted) = flow();
    let mut from = source.flow;
    let pumping = async {
        loop {
            let piece = next(&mut from).await;
            let last = !matches!(&piece, Ok(Some(_)));
            progress.add(piece.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len));
            let broken = piece.as_ref().err().map(ToString::to_string);
            if giver.send(piece.map(Option::unwrap_or_default)).await.is_err() || last {
                return broken;
            }
        }
    };
    call = call.flowing(BYTES, size, payload(counted)).within(LONG);
    let (answer, broken) = tokio::join!(client.json(&call), pumping);
    // Our own end is why the server's broke off.
    if let Some(why) = broken {
        return Err(Failure::new(Exit::Other, format!("the copy broke off: {why}"))
            .hint("Nothing half was left behind; copy again."));
    }
    let answer = answer?;
    let number = |name: &str| answer[name].as_u64().unwrap_or(0);
    if kind != Kind::Folder {
        return Ok(Copied { entries: 1, bytes: number("size"), ..Copied::default() });
    }
    let why = answer["why"].as_array().into_iter().flatten();
    Ok(Copied {
        entries: number("entries"),
        bytes: number("bytes"),
        skipped: number("skipped"),
        why: why.filter_map(|text| text.as_str().map(str::to_owned)).collect(),
    })
}

/// A body that can be sent once: asked for again it is broken.
fn payload(flow: Flow) -> MakePayload {
    let flow = Arc::new(Mutex::new(Some(flow)));
    Arc::new(move || {
        let taken = flow.lock().ok().and_then(|mut flow| flow.take());
        let flow = taken.unwrap_or_else(|| super::flow::flow().1);
        FlowBody::new(flow).boxed()
    })
}
