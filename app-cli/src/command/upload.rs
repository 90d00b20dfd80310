//! `flare template upload`: a folder becomes a version.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::stream;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::bundle::{self, Packed};
use crate::client::{Call, MakePayload};
use crate::context::Context;
use crate::exit::{Failure, Outcome};
use crate::output::Output;
use crate::table::field;
use crate::text::bytes;

/// Bytes per piece of the upload.
const PIECE: usize = 256 << 10;
/// An upload may take so long on a slow line.
const DEADLINE: Duration = Duration::from_secs(3600);

/// What to upload as what.
#[derive(Debug, Args)]
pub struct Upload {
    /// The template, by id or name.
    template: String,
    /// What the version is called: 1 to 64 of A-Z, a-z, 0-9, '.', '_', '+' and '-'.
    #[arg(long, value_name = "LABEL")]
    version: String,
    /// The folder. By default the current one if it holds flare.toml, else a built-in starter.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Runs `flare template upload`.
///
/// # Errors
/// When the folder cannot be a template or the server refuses; nothing is sent of a folder that is refused here.
pub async fn run(context: &Context, args: Upload) -> Outcome {
    let client = context.client()?;
    let dir = args.dir.clone();
    let (packed, remarks) = tokio::task::spawn_blocking(move || prepare(dir))
        .await
        .map_err(|error| Failure::local("cannot pack", error))??;
    for remark in &remarks {
        context.output.note(remark);
    }
    context.output.progress(&format!("packed {} entries, {}", packed.entries, bytes(packed.size)));
    let Upload { template, version, .. } = args;
    let draft = client
        .json(&Call::post(&["templates", &template, "versions"]).once().json(&json!({ "label": version })))
        .await?;
    let id = draft["id"].as_str().unwrap_or(&version).to_owned();
    let Packed { file, size, digest, .. } = packed;
    let call = Call::new(Method::PUT, &["templates", &template, "versions", &id, "bundle"])
        .body("application/zstd", size, payload(file, size))
        .within(DEADLINE);
    let document = match sent(&context.output, size, client.json(&call)).await {
        // The answer was lost on the way, and the same bundle sent again came too late.
        Err(failure) if failure.is("already_uploaded") => {
            let found = client.json(&Call::get(&["templates", &template, "versions", &id])).await?;
            if found["bundle"]["blake3"] != digest.as_str() {
                return Err(failure);
            }
            found
        }
        other => other?,
    };
    warn(context, &document);
    context.output.result(&document, || {
        format!(
            "Uploaded version {} ({}), {} in {}.\nIts build is {}.\nNext: flare template promote {template} {}",
            field(&document, "label"),
            field(&document, "id"),
            bytes(size),
            &digest[..12],
            field(&document, "build_id"),
            field(&document, "id"),
        )
    });
    Ok(0)
}

/// Everything that needs no server: what to upload, and whether it can be.
fn prepare(dir: Option<PathBuf>) -> Result<(Packed, Vec<String>), Failure> {
    let here = PathBuf::from(".");
    let (items, mut remarks) = match dir {
        Some(dir) => {
            if !dir.is_dir() {
                return Err(Failure::usage(format!("{} is not a folder", dir.display())));
            }
            if !bundle::is_template(&dir) {
                return Err(no_manifest(&dir));
            }
            bundle::check_manifest(&dir)?;
            bundle::collect(&dir)?
        }
        None if bundle::is_template(&here) => {
            bundle::check_manifest(&here)?;
            bundle::collect(&here)?
        }
        None => {
            let mut remarks = vec![
                "This folder holds no flare.toml: uploading the built-in starter alone, nothing of this folder. \
                 To make it a template: flare template init"
                    .to_owned(),
            ];
            remarks.extend(bundle::foreign_manifest(&here).map(not_yet));
            (bundle::starter(), remarks)
        }
    };
    let packed = bundle::pack(&items)?;
    remarks.dedup();
    Ok((packed, remarks))
}

fn no_manifest(dir: &std::path::Path) -> Failure {
    let failure = Failure::usage(format!("{} holds no flare.toml", dir.display()));
    match bundle::foreign_manifest(dir) {
        Some(name) => failure.hint(format!(
            "{} Make it a template with `flare template init {}`.",
            not_yet(name),
            dir.display()
        )),
        None => failure.hint(format!("Make it a template with `flare template init {}`.", dir.display())),
    }
}

fn not_yet(name: &str) -> String {
    format!("{name} is not supported yet.")
}

/// The bundle as a body that can be made again for another try.
fn payload(file: File, size: u64) -> MakePayload {
    let file = Arc::new(file);
    Arc::new(move || {
        let file = Arc::clone(&file);
        let pieces = stream::try_unfold(0_u64, move |at| {
            let file = Arc::clone(&file);
            async move {
                if at >= size {
                    return Ok::<_, io::Error>(None);
                }
                let mut piece = vec![0; usize::try_from(size - at).unwrap_or(PIECE).min(PIECE)];
                file.read_exact_at(&mut piece, at)?;
                let next = at + piece.len() as u64;
                SENT.store(next, std::sync::atomic::Ordering::Relaxed);
                Ok(Some((Frame::data(Bytes::from(piece)), next)))
            }
        });
        BodyExt::boxed(StreamBody::new(SyncStream(std::sync::Mutex::new(Box::pin(pieces)))))
    })
}

/// Bytes handed to the connection so far; one upload per process.
static SENT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Shows how far the upload is while it runs.
async fn sent<T>(
    output: &Output,
    size: u64,
    upload: impl Future<Output = Result<T, Failure>> + Send,
) -> Result<T, Failure> {
    let mut upload = std::pin::pin!(upload);
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    tick.tick().await;
    loop {
        tokio::select! {
            done = &mut upload => {
                output.end_progress();
                return done;
            }
            _ = tick.tick() => {
                let sent = SENT.load(std::sync::atomic::Ordering::Relaxed);
                output.progress(&format!("uploading: {} of {}", bytes(sent), bytes(size)));
            }
        }
    }
}

/// Tells what the manifest asks for in vain so far.
fn warn(context: &Context, document: &Value) {
    for warning in document["warnings"].as_array().into_iter().flatten() {
        context.output.warn(&format!("{}: {}", field(warning, "code"), field(warning, "message")));
    }
}

/// Bodies have to be `Sync`, streams of futures are not.
struct SyncStream<S>(std::sync::Mutex<std::pin::Pin<Box<S>>>);

impl<S: stream::Stream> stream::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        match self.get_mut().0.get_mut() {
            Ok(inner) => inner.as_mut().poll_next(context),
            Err(_) => std::task::Poll::Ready(None),
        }
    }
}
