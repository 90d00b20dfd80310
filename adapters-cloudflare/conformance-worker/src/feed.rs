//! Live hints through objects of workspaces: the cases, a stream of them, and how many listen.

use std::sync::Arc;

use burstflare_adapters_cloudflare::{CloudFeed, IsolateBackground, feed};
use burstflare_ports::conformance::{FEED_CASES, Verdict, case};
use burstflare_ports::feed::Feed as _;
use burstflare_ports::id::Id;
use burstflare_ports::record::Workspace;
use futures_util::StreamExt as _;
use wasm_bindgen::JsValue;
use worker::{
    DurableObject, Env, Error, Request, Response, Result, State, WebSocket, WebSocketIncomingMessage,
    durable_object,
};

/// The object of a workspace.
#[durable_object(websocket)]
pub struct WorkspaceObject {
    state: State,
}

impl DurableObject for WorkspaceObject {
    fn new(state: State, _: Env) -> Self {
        Self { state }
    }

    async fn fetch(&self, request: Request) -> Result<Response> {
        feed::answer(&self.state, &request)
    }

    /// Listeners have nothing to say.
    async fn websocket_message(&self, _: WebSocket, _: WebSocketIncomingMessage) -> Result<()> {
        Ok(())
    }

    /// One who left is among the sockets no more.
    async fn websocket_close(&self, _: WebSocket, _: usize, _: String, _: bool) -> Result<()> {
        Ok(())
    }

    async fn websocket_error(&self, _: WebSocket, _: Error) -> Result<()> {
        Ok(())
    }
}

/// Runs a case; none where there is none.
pub(crate) async fn run(name: &str, env: &Env, context: JsValue, seed: u64) -> Result<Option<Verdict>> {
    let Some(case) = case(FEED_CASES, name) else { return Ok(None) };
    let feed = CloudFeed::new(env.durable_object("WORKSPACES")?, IsolateBackground::new(context));
    Ok(Some((case.run)(Arc::new(feed), seed).await))
}

/// `GET /feed/ID` streams a line for each hint, `POST /feed/ID` hints, `PUT /feed/ID` says how many listen.
pub(crate) async fn answer(request: &Request, id: &str, env: &Env, context: JsValue) -> Result<Response> {
    let objects = env.durable_object("WORKSPACES")?;
    let workspace: Id<Workspace> = id.parse().map_err(|_| Error::RustError("no workspace".to_owned()))?;
    let feed = CloudFeed::new(objects.clone(), IsolateBackground::new(context));
    let refused = |error: burstflare_ports::error::PortError| Error::RustError(error.to_string());
    match request.method() {
        worker::Method::Get => {
            let hints = feed.subscribe(workspace).await.map_err(refused)?;
            let begun = futures_util::stream::iter(["listening\n"]);
            let lines = begun.chain(hints.map(|()| "hint\n"));
            Response::from_stream(lines.map(|line| Ok::<_, Error>(line.as_bytes().to_vec())))
        }
        worker::Method::Post => {
            feed.publish(workspace).await.map_err(refused)?;
            Response::empty()
        }
        _ => objects.get_by_name(&workspace.to_string())?.fetch_with_str("https://workspace/count").await,
    }
}
