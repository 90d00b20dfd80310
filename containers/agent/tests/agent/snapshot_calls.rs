//! The calls of format 2, from outside.

use std::fs;
use std::time::Duration;

use burstflare_ports::wire::frame::Decoder;
use burstflare_ports::wire::snapshot::{CAPABILITY, Hash, Missing, Packed, Scanned};
use burstflare_ports::wire::tree::Summary;
use burstflare_ports::wire::{Ready, Refusal};
use bytes::Bytes;
use http::{Method, StatusCode};

use crate::machine::{Machine, eventually, give_away};
use crate::snapshot_place::{Store, noise};
use crate::tree::{assert_same, capture, odd_tree, picture, without_socket};

async fn scan(machine: &Machine, parent: impl Into<Bytes>) -> (Vec<Missing>, Scanned) {
    let (status, body) = machine.call(Method::POST, "/v1/snapshots/scan?disk=a%20disk", parent).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let mut decoder = Decoder::default();
    let frames = decoder.push(&body).unwrap();
    let missing = frames.iter().flat_map(|frame| Missing::decode_all(frame).unwrap()).collect();
    (missing, serde_json::from_slice(&decoder.finish().unwrap()).unwrap())
}

async fn snapshot(machine: &Machine, store: &mut Store, parent: &[u8]) -> (Vec<u8>, Scanned, Packed) {
    let (missing, scanned) = scan(machine, parent.to_vec()).await;
    assert_eq!(scanned.new_chunks, missing.len() as u64);
    let mut have = Vec::new();
    for missing in missing {
        if let Some(known) = store.chunks.get(&missing.hash) {
            known.encode(&mut have);
        }
    }
    let path = format!("/v1/snapshots/packs?scan={}", scanned.scan);
    let (status, stream) = machine.call(Method::POST, &path, have).await;
    assert_eq!(status, StatusCode::OK, "{stream:?}");
    let (manifest, packed) = store.take(&stream);
    assert_eq!(packed.summary.archive_blake3, Some(Hash::of(&manifest).to_string()));
    (manifest, scanned, packed)
}

#[tokio::test]
async fn odd_trees_come_back_and_both_formats_agree_on_the_digest() {
    let machine = Machine::start();
    let (_, ready) = machine.get("/ready").await;
    let ready: Ready = serde_json::from_slice(&ready).unwrap();
    assert!(ready.capabilities.iter().any(|name| name == CAPABILITY));
    odd_tree(&machine);
    let before = picture(&machine.roots);
    let mut store = Store::default();
    let (manifest, scanned, packed) = snapshot(&machine, &mut store, b"").await;
    assert_same(&picture(&machine.roots), &before);
    let (_, first) = capture(&machine).await;
    assert_eq!(
        packed.summary,
        Summary { format: 2, archive_blake3: packed.summary.archive_blake3.clone(), ..first }
    );
    assert_eq!((scanned.digest, scanned.bytes), (packed.summary.digest.clone(), packed.summary.bytes));
    // The second time nothing is sent.
    let (missing, _) = scan(&machine, manifest.clone()).await;
    assert_eq!(missing, []);
    machine.sh("chmod 700 shut shut/in && rm -rf shut a && mkdir -p other/x && chmod 0 other run && rm -f empty && mkdir empty").await;
    let (status, body) = machine.call(Method::PUT, "/v1/snapshots", store.stream(&manifest)).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let restored: Summary = serde_json::from_slice(&body).unwrap();
    assert_eq!(restored, Summary { archive_blake3: None, ..packed.summary });
    assert_same(&picture(&machine.roots), &without_socket(before));
}

#[tokio::test]
async fn calls_that_make_no_sense_say_why() {
    let machine = Machine::start();
    fs::write(machine.roots[0].join("file"), "content").unwrap();
    give_away(&machine.roots[0]);
    let refused = async |method: Method, path: &str, body: &[u8]| -> (u16, Refusal) {
        machine.refusal(method, path, body.to_vec()).await
    };
    let post = Method::POST;
    for (path, body, status, code) in [
        ("/v1/snapshots/scan?disc=x", &b""[..], 400, "invalid"),
        (&format!("/v1/snapshots/scan?disk={}", "x".repeat(201)), b"", 400, "invalid"),
        ("/v1/snapshots/scan", b"no manifest", 422, "corrupt"),
        ("/v1/snapshots/packs?scan=1", b"", 404, "not_found"),
        ("/v1/snapshots/packs", b"", 404, "not_found"),
    ] {
        let (found, refusal) = refused(post.clone(), path, body).await;
        assert_eq!((found, refusal.code.as_str()), (status, code), "{path}: {refusal:?}");
    }
    let (missing, scanned) = scan(&machine, "").await;
    let packs = format!("/v1/snapshots/packs?scan={}", scanned.scan);
    let (status, refusal) = refused(post.clone(), &packs, b"half a record").await;
    assert_eq!((status, refusal.code.as_str()), (400, "invalid"), "{refusal:?}");
    // A scan is good for one attempt.
    assert_eq!(refused(post.clone(), &packs, b"").await.0, 404);
    assert_eq!(missing.len(), 1);
    let (_, older) = scan(&machine, "").await;
    let (_, newer) = scan(&machine, "").await;
    assert_eq!(refused(post.clone(), &format!("/v1/snapshots/packs?scan={}", older.scan), b"").await.0, 404);
    let (status, _) =
        machine.call(post, &format!("/v1/snapshots/packs?scan={}", newer.scan), Bytes::new()).await;
    assert_eq!(status, StatusCode::OK);
    let now = picture(&machine.roots);
    let mut store = Store::default();
    let (manifest, ..) = snapshot(&machine, &mut store, b"").await;
    let mut stream = store.stream(&manifest);
    let middle = stream.len() - 30;
    stream[middle] ^= 1;
    let (status, refusal) = refused(Method::PUT, "/v1/snapshots", &stream).await;
    assert_eq!((status, refusal.code.as_str()), (422, "corrupt"));
    assert!(refusal.message.contains("workspace/file"), "{}", refusal.message);
    assert_same(&picture(&machine.roots), &now);
    // Another machine's roots are not ours.
    let other = Machine::start();
    assert_eq!(other.call(Method::PUT, "/v1/snapshots", store.stream(&manifest)).await.0, 422);
}

/// Killed at any moment: the next agent shows the old tree or the new one.
#[tokio::test]
async fn a_killed_restore_leaves_one_of_the_two_trees() {
    let machine = Machine::start();
    let roots: Vec<String> = machine.roots.iter().map(|root| root.to_str().unwrap().to_owned()).collect();
    for number in 0..400 {
        let folder = machine.roots[0].join(format!("new {}", number % 20));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(number.to_string()), noise(number, 5000)).unwrap();
    }
    fs::write(machine.roots[1].join("new"), "x").unwrap();
    give_away(&machine.roots[0]);
    give_away(&machine.roots[1]);
    let mut store = Store::default();
    let (manifest, _, packed) = snapshot(&machine, &mut store, b"").await;
    let stream = store.stream(&manifest);
    let kills: u64 = std::env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let (mut old_left, mut new_left) = (0, 0);
    for kill in 0..kills {
        for root in &machine.roots {
            machine.sh(&format!("cd '{}' && find . -mindepth 1 -delete", root.display())).await;
        }
        machine.sh("mkdir old && for i in $(seq 300); do echo $i >old/$i; done").await;
        let twin = Machine::with({
            let roots = roots.clone();
            move |boot| boot.roots = roots
        });
        assert_eq!(twin.get("/ready").await.0, StatusCode::OK);
        let call = twin.call(Method::PUT, "/v1/snapshots", stream.clone());
        // From the first moments to after the end.
        let moment = Duration::from_millis(kill * kill * 2);
        let _ = tokio::time::timeout(moment, call).await;
        let mut twin = twin;
        twin.signal(rustix::process::Signal::KILL);
        twin.wait();
        let next = Machine::with({
            let roots = roots.clone();
            move |boot| boot.roots = roots
        });
        let (_, summary) = capture(&next).await;
        if summary.digest == packed.summary.digest {
            new_left += 1;
        } else {
            old_left += 1;
            let left = next.sh(&format!("cd '{}' && ls -A && cat old/* | wc -l", roots[0])).await;
            assert_eq!(left, "old\n300\n", "after {moment:?}");
        }
    }
    eprintln!("killed {kills} times: {old_left} old trees, {new_left} new ones");
    assert_eq!(old_left + new_left, kills);
}

/// What a snapshot takes in memory is given back.
#[tokio::test]
async fn memory_falls_back() {
    let machine = Machine::start();
    for number in 0..3000u64 {
        fs::write(machine.roots[0].join(number.to_string()), noise(number, 10_000)).unwrap();
    }
    fs::write(machine.roots[0].join("large"), noise(1, 20 << 20)).unwrap();
    give_away(&machine.roots[0]);
    let mut store = Store::default();
    let (manifest, ..) = snapshot(&machine, &mut store, b"").await;
    machine.call(Method::PUT, "/v1/snapshots", store.stream(&manifest)).await;
    let status = || fs::read_to_string(format!("/proc/{}/status", machine.pid())).unwrap();
    let kilobytes = |key: &str| -> u64 {
        let status = status();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // The binary of a test build is counted as well, so anonymous memory is what is looked at.
    eventually("the agent gives memory back", || kilobytes("RssAnon:") < 10_000).await;
    eprintln!(
        "anonymous memory at rest: {} kB, at most: {} kB in all",
        kilobytes("RssAnon:"),
        kilobytes("VmHWM:")
    );
}
