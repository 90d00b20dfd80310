//! One fault at a time, and what has to come of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burstflare_ports::blob::Blobs;
use burstflare_ports::error::ErrorKind;
use burstflare_ports::stream::Body;

use crate::fresh::Fresh;
use crate::proxy::{Call, Fault};
use crate::reach::{options, short};
use crate::server::{PATIENCE, Server};
use crate::{bytes, flow, key, read};

const BIG: usize = 20 << 20;

async fn fresh() -> Option<Fresh> {
    let make = |port| {
        let mut options = options(port, "broken", "");
        options.deadlines = short();
        options
    };
    Fresh::behind_proxy(make).await
}

/// How many uploads the service still keeps parts of.
async fn unfinished(fresh: &Fresh) -> usize {
    let mut options = options(fresh.proxy().port, "broken", "");
    options.stale = Duration::ZERO;
    let blobs = crate::reach::blobs(options).await;
    blobs.sweep().await.expect("a sweep")
}

#[tokio::test]
async fn an_upload_whose_last_answer_is_lost_is_done_once() {
    let Some(fresh) = fresh().await else { return };
    for (name, fault) in [("lost", Fault::LostAnswer), ("said", Fault::FailedWith200)] {
        fresh.proxy().plan(move |call, before| match call {
            Call::Complete if before == 0 => fault,
            _ => Fault::None,
        });
        let whole = bytes(BIG, 1);
        let info = fresh.put(&key(name), flow(&whole), BIG as u64).await.expect("it is there");
        assert!(fresh.proxy().calls(Call::Complete) >= 1);
        assert_eq!(fresh.proxy().calls(Call::Begin), 1, "{name}: begun anew");
        assert_eq!(info.blake3, blake3::hash(&whole).to_hex().as_str());
        assert_eq!(read(&fresh, name).await.expect("its bytes"), whole);
    }
    assert_eq!(unfinished(&fresh).await, 0);
}

#[tokio::test]
async fn an_upload_that_never_gets_its_last_answer_is_found_done() {
    let Some(fresh) = fresh().await else { return };
    fresh.proxy().plan(|call, _| if call == Call::Complete { Fault::LostAnswer } else { Fault::None });
    let whole = bytes(BIG, 2);
    fresh.put(&key("a"), flow(&whole), BIG as u64).await.expect("it is there");
    assert_eq!(read(&fresh, "a").await.expect("its bytes"), whole);
}

#[tokio::test]
async fn an_upload_that_cannot_be_completed_is_an_error_and_leaves_what_was_there() {
    let Some(fresh) = fresh().await else { return };
    fresh.put(&key("a"), Body::Full(bytes(5, 0)), 5).await.expect("the first");
    fresh.proxy().plan(|call, _| match call {
        Call::Complete => Fault::Refused(500, "InternalError"),
        _ => Fault::None,
    });
    let answer = fresh.put(&key("a"), flow(&bytes(BIG, 1)), BIG as u64).await;
    assert_eq!(answer.err().map(|error| error.kind()), Some(ErrorKind::Unavailable));
    assert_eq!(read(&fresh, "a").await.expect("its bytes"), bytes(5, 0));
    until_none_unfinished(&fresh).await;
}

/// An upload that failed is given up in the background.
async fn until_none_unfinished(fresh: &Fresh) {
    assert_eq!(fresh.blobs.shutdown(PATIENCE).await, 0, "not given up in time");
    assert!(fresh.proxy().calls(Call::Abort) >= 1, "nobody gave it up");
    assert_eq!(unfinished(fresh).await, 0);
}

#[tokio::test]
async fn parts_that_break_off_are_sent_again_and_the_object_is_whole() {
    let Some(fresh) = fresh().await else { return };
    fresh.proxy().plan(|call, before| match (call, before) {
        (Call::Part, 0) => Fault::CutAfter(3 << 20),
        (Call::Part, 1) => Fault::LostAnswer,
        _ => Fault::None,
    });
    let whole = bytes(BIG, 3);
    fresh.put(&key("a"), flow(&whole), BIG as u64).await.expect("the put");
    assert_eq!(fresh.proxy().calls(Call::Part), 9, "three parts, each three times");
    assert_eq!(read(&fresh, "a").await.expect("its bytes"), whole);
}

#[tokio::test]
async fn nothing_partial_is_ever_seen() {
    let Some(fresh) = fresh().await else { return };
    let direct = fresh.direct("broken").await;
    fresh.proxy().plan(|call, _| match call {
        Call::Put => Fault::CutAfter(100_000),
        Call::Part => Fault::CutAfter(1 << 20),
        _ => Fault::None,
    });
    let (small, big) = (bytes(1 << 20, 1), bytes(BIG, 1));
    let fresh = Arc::new(fresh);
    let puts = [("small", Body::Full(small)), ("big", flow(&big))].map(|(name, body)| {
        let fresh = Arc::clone(&fresh);
        tokio::spawn(async move { fresh.put(&key(name), body, BIG as u64).await })
    });
    let mut puts = futures_util::future::join_all(puts);
    let answers = loop {
        tokio::select! {
            answers = &mut puts => break answers,
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
        for name in ["small", "big"] {
            assert_eq!(direct.head(&key(name)).await.expect("head"), None, "{name} is seen");
        }
    };
    for answer in answers {
        let error = answer.expect("no panic").expect_err("nothing came through");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    until_none_unfinished(&fresh).await;
    assert_eq!(direct.head(&key("big")).await.expect("head"), None);
}

#[tokio::test]
async fn reads_that_break_off_or_fall_silent_go_on_where_they_were() {
    let Some(fresh) = fresh().await else { return };
    let whole = bytes(3 << 20, 4);
    for (name, body) in [("one", Body::Full(whole.clone())), ("parts", flow(&bytes(BIG, 4)))] {
        fresh.proxy().plan(|_, _| Fault::None);
        fresh.put(&key(name), body, BIG as u64).await.expect("the put");
        fresh.proxy().plan(|call, before| match (call, before) {
            (Call::Get, 0) => Fault::CutAnswer(700_001),
            _ => Fault::None,
        });
        let found = read(&fresh, name).await.expect("its bytes");
        assert_eq!(found, bytes(found.len(), 4), "{name}");
        assert!(fresh.proxy().faults() >= 1);
        let range = 10..2_000_000;
        let (_, body) = fresh.get(&key(name), Some(range.clone())).await.expect("a range");
        let part = Body::Stream(body).collect(BIG, "test").await.expect("its bytes");
        assert_eq!(part, found.slice(10..2_000_000), "{name}");
        let once = AtomicBool::new(true);
        fresh.proxy().plan(move |call, _| {
            let silent = call == Call::Get && once.swap(false, Ordering::Relaxed);
            if silent { Fault::SilentAfter(700_001) } else { Fault::None }
        });
        assert_eq!(read(&fresh, name).await.expect("its bytes"), found, "{name} after silence");
    }
}

#[tokio::test]
async fn a_read_that_always_breaks_off_without_progress_ends() {
    let Some(fresh) = fresh().await else { return };
    fresh.put(&key("a"), Body::Full(bytes(1 << 20, 4)), 1 << 20).await.expect("the put");
    fresh.proxy().plan(|call, _| if call == Call::Get { Fault::CutAnswer(0) } else { Fault::None });
    let error = read(&fresh, "a").await.expect_err("no byte came");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    // One read and four more tries. Where the cut overtakes the answer's head, the client itself tries five times.
    let calls = fresh.proxy().calls(Call::Get);
    assert!((5..=25).contains(&calls), "{calls} reads");
}

#[tokio::test]
async fn a_flipped_bit_is_found_before_the_last_chunk_is_given() {
    let Some(fresh) = fresh().await else { return };
    for (name, body) in [("one", Body::Full(bytes(1 << 20, 4))), ("parts", flow(&bytes(BIG, 4)))] {
        fresh.proxy().plan(|_, _| Fault::None);
        fresh.put(&key(name), body, BIG as u64).await.expect("the put");
        fresh.proxy().plan(|call, _| if call == Call::Get { Fault::Flipped } else { Fault::None });
        let error = read(&fresh, name).await.expect_err("other bytes");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error:?}");
    }
}

#[tokio::test]
async fn a_blob_that_is_replaced_while_it_is_read_is_not_mixed() {
    let Some(fresh) = fresh().await else { return };
    fresh.put(&key("a"), Body::Full(bytes(3 << 20, 1)), 3 << 20).await.expect("the put");
    let direct = fresh.direct("broken").await;
    fresh.proxy().plan(|call, before| match (call, before) {
        (Call::Get, 0) => Fault::CutAnswer(1_000_000),
        _ => Fault::None,
    });
    let (_, body) = fresh.get(&key("a"), None).await.expect("its head");
    direct.put(&key("a"), Body::Full(bytes(3 << 20, 2)), 3 << 20).await.expect("another");
    let error = Body::Stream(body).collect(BIG, "test").await.expect_err("half of each");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
}

#[tokio::test]
async fn what_is_told_to_go_goes_although_the_answer_is_lost() {
    let Some(fresh) = fresh().await else { return };
    fresh.put(&key("a"), Body::Full(bytes(5, 0)), 5).await.expect("the put");
    fresh.proxy().plan(|call, before| match (call, before) {
        (Call::Delete | Call::Put, 0) => Fault::LostAnswer,
        _ => Fault::None,
    });
    fresh.delete(&key("a")).await.expect("the delete");
    assert_eq!(fresh.head(&key("a")).await.expect("head"), None);
    fresh.put(&key("b"), Body::Full(bytes(5, 0)), 5).await.expect("the put");
    assert_eq!(read(&fresh, "b").await.expect("its bytes"), bytes(5, 0));
}

#[tokio::test]
async fn a_service_that_never_answers_ends_in_a_deadline() {
    let Some(server) = Server::start() else { return };
    crate::reach::blobs(options(server.port, "x", "")).await;
    let proxy = crate::proxy::Proxy::start(server.port).await;
    let mut options = options(proxy.port, "x", "");
    options.deadlines.attempt = Duration::from_millis(500);
    options.deadlines.operation = Duration::from_secs(2);
    let blobs = crate::reach::blobs(options).await;
    proxy.plan(|_, _| Fault::Forever);
    let begun = Instant::now();
    let error = blobs.put(&key("a"), Body::Full(bytes(5, 0)), 5).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(begun.elapsed() < PATIENCE, "the deadline does not hold");
}
