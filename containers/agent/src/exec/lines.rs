//! Output as JSON lines.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use burstflare_ports::wire::ExecOutput;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::run::{Name, Piece};
use super::text::{self, Splitter};

/// A reader that stands still for so long does not hear how the command ended.
const STILL: Duration = Duration::from_secs(120);

type Lines = mpsc::Sender<io::Result<Bytes>>;

/// Writes pieces as they come, until there are no more or the reader is gone.
pub(super) async fn write(mut pieces: mpsc::Receiver<Piece>, lines: &Lines) {
    let (mut out, mut err) = (Splitter::default(), Splitter::default());
    loop {
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            // Dropping the receiver tells whoever runs the command.
            () = lines.closed() => return,
        };
        let Some((name, bytes)) = piece else { break };
        let splitter = match name {
            Name::Stdout => &mut out,
            Name::Stderr => &mut err,
        };
        for part in splitter.push(&bytes) {
            if lines.send(line(&output(name, part))).await.is_err() {
                return;
            }
        }
    }
    for (name, mut splitter) in [(Name::Stdout, out), (Name::Stderr, err)] {
        if let Some(part) = splitter.finish() {
            let _ = lines.send(line(&output(name, part))).await;
        }
    }
}

/// Writes the last line.
pub(super) async fn last(last: &ExecOutput, lines: &Lines) {
    let _ = tokio::time::timeout(STILL, lines.send(line(last))).await;
}

fn output(name: Name, part: text::Piece) -> ExecOutput {
    match (name, part) {
        (Name::Stdout, text::Piece::Text(text)) => ExecOutput::Stdout(text),
        (Name::Stdout, text::Piece::Binary(bytes)) => ExecOutput::StdoutB64(STANDARD.encode(bytes)),
        (Name::Stderr, text::Piece::Text(text)) => ExecOutput::Stderr(text),
        (Name::Stderr, text::Piece::Binary(bytes)) => ExecOutput::StderrB64(STANDARD.encode(bytes)),
    }
}

fn line(output: &ExecOutput) -> io::Result<Bytes> {
    let mut line = serde_json::to_vec(output)?;
    line.push(b'\n');
    Ok(line.into())
}
