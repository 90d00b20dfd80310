//! The way back: a manifest and its packs become the roots' trees. Everything is made beside the old trees and
//! verified before it takes their place.

mod finish;
mod plan;
mod unpack;

use std::io::Read;

use burstflare_ports::wire::snapshot::stream::{Decoder, Order, Part};
use burstflare_ports::wire::tree::Summary;

use self::plan::Plan;
use super::before::Taking;
use super::swap::Stage;
use crate::reply::Refused;

/// Bytes taken from the body at once.
const PIECE: usize = 256 << 10;

/// Makes the roots exactly the tree of a stream.
pub(super) fn restore(roots: &[String], mut body: impl Read) -> Result<Summary, Refused> {
    let mut decoder = Decoder::new(Order::ManifestFirst);
    let mut taking = Taking::default();
    let mut piece = vec![0; PIECE];
    let mut next = || -> Result<Option<Vec<Part>>, Refused> {
        match body.read(&mut piece)? {
            // The last piece may have been damaged behind parts that were fine.
            0 => Ok(decoder.push(&[]).map(|_| None)?),
            length => Ok(Some(decoder.push(piece.get(..length).unwrap_or_default())?)),
        }
    };
    // The manifest is over where something else comes.
    let mut rest: Vec<Part> = Vec::new();
    let mut ended = false;
    while rest.is_empty() && !ended {
        match next()? {
            None => ended = true,
            Some(parts) => {
                for part in parts {
                    match part {
                        Part::Manifest(bytes) => taking.push(&bytes)?,
                        other => rest.push(other),
                    }
                }
            }
        }
    }
    let manifest = taking.finish()?;
    let mut stage = Stage::begin(roots)?;
    let plan = Plan::make(roots, &manifest, &mut stage)?;
    let summary = manifest.tables.header.summary();
    unpack::unpack(&plan, &stage, rest, &mut next)?;
    if decoder.finish()?.as_ref() != b"{}" {
        return Err(Refused::corrupt("The snapshot's stream has an unknown trailer."));
    }
    finish::finish(&plan, &mut stage)?;
    stage.commit()?;
    Ok(summary)
}
