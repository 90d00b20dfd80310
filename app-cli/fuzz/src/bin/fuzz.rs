//! Runs the target that `FUZZ_TARGET` names under libFuzzer; `run` beside this crate's manifest builds and calls it.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<&'static burstflare_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    burstflare_fuzz::target(&name).unwrap_or_else(|| {
        eprintln!("FUZZ_TARGET names no target: {name:?}");
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
