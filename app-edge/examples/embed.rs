//! A control plane within another service: its router is mounted beside routes of one's own.
//!
//! `cargo run -p burstflare-app-edge --features harness --example embed -- 8790`

use axum::Router;
use axum::routing::get;
use burstflare_app_edge::EdgeConfig;
use burstflare_app_edge::harness::{Harness, Parts};
use burstflare_app_edge::serve::{Bounds, serve};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let port = std::env::args().nth(1).as_deref().unwrap_or("8790").parse()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(port))
}

#[expect(clippy::print_stdout, reason = "an example talks to who runs it")]
async fn run(port: u16) -> Result<(), Failure> {
    let edge = EdgeConfig::dev(port);
    let url = edge.url();
    let harness = Harness::with(Parts { edge, ..Parts::default() }).await?;
    // Routes of one's own stand in front of the guards of the control plane's.
    let service = Router::new().route("/mine", get(|| async { "mine" })).merge(harness.router());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("{url}");
    serve(listener, service, std::future::pending(), Bounds::default()).await?;
    harness.stop().await;
    Ok(())
}
