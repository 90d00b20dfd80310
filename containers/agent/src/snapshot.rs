//! Snapshots in format 2, of live trees: see [`burstflare_ports::wire::snapshot`].
//!
//! A scan (`scan`, `walk`, `before`, `content`) lists the roots, reads what does not look as it did to the parent,
//! and leaves a draft of the tree. The packs (`packing`, `pack`) are made of it, with the manifest at the end.
//! The way back is `restore`, which puts a verified tree in the old one's place (`swap`).

mod before;
mod content;
mod draft;
pub mod measure;
mod pack;
mod packing;
mod reach;
mod restore;
mod scan;
mod seen;
pub(crate) mod swap;
mod walk;
mod work;

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use burstflare_ports::wire::frame;
use burstflare_ports::wire::snapshot::{Hash, Have, MAX_DISK, Missing, Scanned};
use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;

use self::before::{Manifest, disk_hash};
use self::scan::Scan;
#[cfg(test)]
pub(crate) use self::swap::crash::is_dead;
use crate::agent::Agent;
use crate::body::{self, FlowWriter, release_memory};
use crate::reply::{self, Refused, Reply};

/// How long a scan is kept for its packs.
const KEPT: Duration = Duration::from_secs(600);
/// Bytes of records in one frame.
const RECORDS: usize = 4096 * Missing::SIZE;
/// Media type of answers that flow.
const FLOW: &str = "application/vnd.burstflare.snapshot";

/// The last scan, until its packs are asked for.
#[derive(Default)]
pub(crate) struct Scans {
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    number: u64,
    scan: Option<Scan>,
}

impl Scans {
    fn keep(&self, scan: Scan) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.number += 1;
        last.scan = Some(scan);
        last.number
    }

    fn take(&self, number: u64) -> Option<Scan> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.number == number { last.scan.take() } else { None }
    }

    fn forget(&self) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).scan = None;
    }
}

/// The one parameter of a call.
fn parameter<B>(request: &Request<B>, name: &str) -> Result<Option<String>, Refused> {
    let mut found = None;
    for (key, value) in form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
        if key != name || found.is_some() {
            return Err(Refused::invalid(format!("The parameter is `{name}`, once.")));
        }
        found = Some(value.into_owned());
    }
    Ok(found)
}

/// `POST /v1/snapshots/scan`. The answer comes when the scan is done, so that what is wrong with it has a status.
pub(crate) async fn scan(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Reply, Refused> {
    let disk = parameter(&request, "disk")?.unwrap_or_default();
    if disk.len() > MAX_DISK {
        return Err(Refused::invalid(format!("The disk's name is over {MAX_DISK} bytes.")));
    }
    agent.scans.forget();
    let (roots, turn) = (agent.roots.clone(), Arc::clone(&agent.roots_in_use));
    let (scan, mut scanned) = body::read_by(request.into_body(), move |parent| {
        let parent = Manifest::read(parent)?;
        let turn = turn.blocking_lock_owned();
        swap::recover(&roots)?;
        let result = scan::scan(&roots, parent.as_ref(), disk_hash(&disk), scan::now_ns());
        drop(turn);
        result
    })
    .await?;
    let missing: Vec<Missing> = scan.missing().collect();
    let number = agent.scans.keep(scan);
    scanned.scan = number.to_string();
    let forgetting = Arc::clone(agent);
    tokio::spawn(async move {
        tokio::time::sleep(KEPT).await;
        if forgetting.scans.take(number).is_some() {
            release_memory();
        }
    });
    let (writer, flow) = FlowWriter::new(Bytes::clone);
    tokio::task::spawn_blocking(move || {
        if let Err(problem) = send_records(&writer, &missing, &scanned) {
            tracing::info!(%problem, "a scan was not wanted to its end");
        }
        drop(missing);
        release_memory();
    });
    Ok(reply::flow(FLOW, flow))
}

fn send_records(writer: &FlowWriter, missing: &[Missing], scanned: &Scanned) -> io::Result<()> {
    let mut records = Vec::new();
    for missing in missing {
        missing.encode(&mut records);
        if records.len() >= RECORDS {
            writer.send(frame::encode(&std::mem::take(&mut records).into()))?;
        }
    }
    writer.send(frame::encode(&records.into()))?;
    writer.send(frame::encode_trailer(&serde_json::to_vec(scanned)?))
}

/// `POST /v1/snapshots/packs`.
pub(crate) async fn packs(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Reply, Refused> {
    let number = parameter(&request, "scan")?.and_then(|number| number.parse().ok());
    let gone = || Refused::no_scan("This scan is gone, or was none.");
    let scan = number.and_then(|number| agent.scans.take(number)).ok_or_else(gone)?;
    let (scan, have) = body::read_by(request.into_body(), move |records| {
        let have = read_records(&scan, records)?;
        Ok((scan, have))
    })
    .await?;
    let turn = Arc::clone(&agent.roots_in_use).lock_owned().await;
    let (writer, flow) = FlowWriter::new(Bytes::clone);
    tokio::task::spawn_blocking(move || {
        match packing::pack(scan, &have, &mut |piece| writer.send(piece)) {
            Ok(_) => {}
            Err(problem) => {
                tracing::warn!(%problem, "a snapshot's packs failed");
                writer.fail(io::Error::other(problem));
            }
        }
        drop(turn);
        drop(have);
        release_memory();
    });
    Ok(reply::flow(FLOW, flow))
}

/// What the caller has; only what the scan lacks counts, so it is not more than the scan.
fn read_records(scan: &Scan, mut records: impl Read) -> Result<HashMap<Hash, Have>, Refused> {
    let lacking: HashMap<Hash, u32> = scan.missing().map(|missing| (missing.hash, missing.plain)).collect();
    let mut have = HashMap::new();
    let mut record = [0; Have::SIZE];
    loop {
        let mut end = 0;
        while end < record.len() {
            match records.read(record.get_mut(end..).unwrap_or_default())? {
                0 if end == 0 => return Ok(have),
                0 => return Err(Refused::invalid("The last record is cut off.")),
                length => end += length,
            }
        }
        let known = Have::decode(&record).map_err(|problem| Refused::invalid(problem.to_string()))?;
        match lacking.get(&known.hash) {
            Some(plain) if *plain == known.plain => {
                have.insert(known.hash, known);
            }
            Some(_) => return Err(Refused::invalid(format!("The chunk {} has another length.", known.hash))),
            None => {}
        }
    }
}

/// `PUT /v1/snapshots`: makes the roots exactly that tree.
pub(crate) async fn restore(agent: &Arc<Agent>, body: Incoming) -> Result<Reply, Refused> {
    let turn = Arc::clone(&agent.roots_in_use).lock_owned().await;
    let roots = agent.roots.clone();
    let summary = body::read_by(body, move |stream| {
        let result = restore::restore(&roots, stream);
        // Held until the work is done, even if the caller has gone.
        drop(turn);
        result
    })
    .await?;
    reply::json(&summary)
}

#[cfg(test)]
mod tests;
