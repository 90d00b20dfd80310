//! Layers on this host: unpacked once, shared by all machines that begin from them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use burstflare_ports::blob::Blobs;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::machine::LayerRef;

use super::failed;
use super::record::private_folder;
use super::remove::Trash;
use super::runtime::blocking;
use crate::tree;

const PREPARE: &str = "machine.prepare";

/// The layers' folder: one folder per digest, which is there when it is whole.
pub(super) struct Layers {
    path: PathBuf,
    trash: Arc<Trash>,
    owner: Option<u32>,
    blobs: Arc<dyn Blobs>,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Layers {
    /// Opens the folder and removes what an earlier server left unfinished. `owner` gets the files, where the server is root.
    pub(super) fn open(path: PathBuf, owner: Option<u32>, blobs: Arc<dyn Blobs>) -> PortResult<Self> {
        let opened = private_folder(&path).and_then(|()| Trash::open(path.join(".trash")));
        let trash = opened
            .and_then(|trash| {
                trash.take(&path.join(".new"))?;
                private_folder(&path.join(".new"))?;
                trash.empty().map(|()| trash)
            })
            .map_err(failed("sandbox.open", "cannot use the layers' folder"))?;
        Ok(Self { path, trash: Arc::new(trash), owner, blobs, turns: Mutex::default() })
    }

    /// The folder of a layer, unpacked by the first who asks.
    pub(super) async fn ready(&self, layer: &LayerRef) -> PortResult<PathBuf> {
        if layer.digest.len() != 64
            || !layer.digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(PortError::new(ErrorKind::Invalid, PREPARE, "the layer's digest is none"));
        }
        let place = self.path.join(&layer.digest);
        if place.is_dir() {
            return Ok(place);
        }
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(layer.digest.clone()).or_default())
        };
        let outcome = {
            let _turn = turn.lock().await;
            if place.is_dir() { Ok(()) } else { self.unpack(layer, &place).await }
        };
        // Who still waits holds the turn itself.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).remove(&layer.digest);
        outcome.map(|()| place)
    }

    async fn unpack(&self, layer: &LayerRef, place: &Path) -> PortResult<()> {
        let (_, chunks) = self.blobs.get(&layer.blob, None).await?;
        let beside = self.path.join(".new").join(format!("{}-{}", layer.digest, std::process::id()));
        let (owner, wanted) = (self.owner, layer.clone());
        let (new, into) = (beside.clone(), place.to_owned());
        let unpacked = tree::unpack(chunks, move |bytes| {
            private_folder(&new).map_err(failed(PREPARE, "cannot make the layer's folder"))?;
            let limits = tree::Limits { entries: wanted.files, ..tree::Limits::default() };
            let summary = tree::extract(bytes, &new, owner, limits)?;
            if summary.digest != wanted.digest {
                let context = format!("layer {}: the archive holds tree {}", wanted.digest, summary.digest);
                return Err(PortError::new(ErrorKind::Corrupt, PREPARE, context));
            }
            // Machines' users pass through this folder, whose parents are closed to them.
            publish(&new, &into).map_err(failed(PREPARE, "cannot put the layer into its place"))
        })
        .await;
        if unpacked.is_err() {
            let trash = Arc::clone(&self.trash);
            blocking(move || {
                trash.take(&beside).and_then(|()| trash.empty()).map_err(failed(PREPARE, "cannot clear up"))
            })
            .await?;
        }
        unpacked
    }
}

fn publish(new: &Path, place: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(new, fs::Permissions::from_mode(0o755))?;
    // Many small files: one call for all of them is quicker than one for each.
    rustix::fs::syncfs(fs::File::open(new)?)?;
    fs::rename(new, place)?;
    match place.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
