//! `flare`.
fn main() {}
