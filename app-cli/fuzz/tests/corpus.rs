//! Every target takes what is kept, and what a moment of mutation makes of it. `FUZZ_SECONDS` is the moment of each
//! target (2), `FUZZ_SEED` where mutation begins (1), so a run can be had again.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it did"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use burstflare_fuzz::{Corpus, Mutator, TARGETS, Target, target};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn check(target: &Target, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let folder = std::env::temp_dir().join("flare-fuzz-finds");
        std::fs::create_dir_all(&folder).expect("a folder for finds");
        let file = folder.join(format!("{}-{}", target.name, std::process::id()));
        std::fs::write(&file, input).expect("a find is written");
        panic!("{} fails on {}:\n{}", target.name, file.display(), String::from_utf8_lossy(input));
    }
}

fn survives(name: &str) {
    let target = target(name).expect("a target of this name");
    let corpus = Corpus::of(target).expect("a readable corpus");
    corpus.inputs.iter().for_each(|input| check(target, input));
    let mut mutator = Mutator::new(number("FUZZ_SEED", 1));
    let until = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS", 2));
    let mut tried = 0_u64;
    while Instant::now() < until {
        check(target, &mutator.next(&corpus.inputs, target.words, target.longest));
        tried += 1;
    }
    println!("{name}: {} kept inputs, {tried} mutations", corpus.inputs.len());
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            survives(stringify!($name));
        })*

        #[test]
        fn every_target_is_tried() {
            let tried = [$(stringify!($name)),*];
            assert!(TARGETS.iter().map(|target| target.name).eq(tried));
        }
    };
}

targets! { bundle tar manifest frame message path text ssh_key request cursor sftp tree snapshot resume egress file_query }
