//! The engine without HTTP around it, for measuring and for tests that take snapshots by the hundred. No part of
//! what the crate promises.
#![doc(hidden)]

use std::collections::HashMap;
use std::io::{self, Read};

use burstflare_ports::wire::snapshot::{Hash, Have, Packed, Scanned};
use burstflare_ports::wire::tree::Summary;
use bytes::Bytes;

use super::before::{Manifest, disk_hash};
use super::{packing, swap};

/// A scan, ready to be packed.
pub struct Taken {
    scan: super::scan::Scan,
    /// What it counted.
    pub scanned: Scanned,
    /// What the parent lacks.
    pub missing: Vec<Hash>,
}

/// Scans `roots`; `parent` is a manifest or nothing. `began_ns` stands for the machine's clock.
///
/// # Errors
/// As the call.
pub fn scan(roots: &[String], parent: impl Read, disk: &str, began_ns: Option<i64>) -> io::Result<Taken> {
    swap::recover(roots)?;
    let parent = Manifest::read(parent).map_err(io::Error::other)?;
    let began = began_ns.unwrap_or_else(super::scan::now_ns);
    let (scan, scanned) =
        super::scan::scan(roots, parent.as_ref(), disk_hash(disk), began).map_err(io::Error::other)?;
    let missing = scan.missing().map(|missing| missing.hash).collect();
    Ok(Taken { scan, scanned, missing })
}

impl Taken {
    /// Packs it.
    ///
    /// # Errors
    /// As the call.
    pub fn pack(
        self,
        have: &HashMap<Hash, Have>,
        mut out: impl FnMut(Bytes) -> io::Result<()>,
    ) -> io::Result<Packed> {
        packing::pack(self.scan, have, &mut out).map_err(io::Error::other)
    }
}

/// Restores a stream into `roots`.
///
/// # Errors
/// As the call.
pub fn restore(roots: &[String], stream: impl Read) -> io::Result<Summary> {
    super::restore::restore(roots, stream).map_err(io::Error::other)
}

/// Finishes what a crash has cut off.
///
/// # Errors
/// Of the file system.
pub fn recover(roots: &[String]) -> io::Result<()> {
    swap::recover(roots)
}
