//! Live hints through one Durable Object per workspace: who commits tells the object, and the object tells the sockets of
//! those who listen. The object's sockets hibernate, so listening costs nothing while nothing happens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use burstflare_ports::clock::Background;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::feed::{Feed, Hints};
use burstflare_ports::id::Id;
use burstflare_ports::record::Workspace;
use futures_util::stream;
use js_sys::Function;
use wasm_bindgen::prelude::*;
use worker::send::SendWrapper;
use worker::{Method, ObjectNamespace, Request, RequestInit, Response, State, WebSocketPair};

use crate::background::IsolateBackground;
use crate::js::{js, within};

/// Listeners of one workspace at once.
const LISTENERS: usize = 1_000;
/// How long the object may take; a lost hint costs time and never an event.
const DEADLINE: Duration = Duration::from_secs(5);

#[wasm_bindgen]
extern "C" {
    /// The near end of a socket.
    #[derive(Clone)]
    type Socket;
    #[wasm_bindgen(method, catch)]
    fn accept(this: &Socket) -> Result<(), JsValue>;
    #[wasm_bindgen(method, catch)]
    fn close(this: &Socket, code: u16) -> Result<(), JsValue>;
    #[wasm_bindgen(method, js_name = addEventListener)]
    fn listen(this: &Socket, event: &str, function: &Function);
    #[wasm_bindgen(method, js_name = removeEventListener)]
    fn unlisten(this: &Socket, event: &str, function: &Function);

    type Upgraded;
    #[wasm_bindgen(method, getter, js_name = webSocket)]
    fn socket(this: &Upgraded) -> Option<Socket>;
}

/// Carries hints, for one event of the Worker.
#[derive(Clone)]
pub struct CloudFeed {
    objects: ObjectNamespace,
    background: IsolateBackground,
    /// Workspaces whose object is being told, and whether there is news since.
    telling: Arc<Mutex<BTreeMap<Id<Workspace>, bool>>>,
}

impl CloudFeed {
    /// Over the objects of workspaces. Telling goes on behind the answer.
    #[must_use]
    pub fn new(objects: ObjectNamespace, background: IsolateBackground) -> Self {
        Self { objects, background, telling: Arc::default() }
    }

    async fn tell(self, workspace: Id<Workspace>) {
        loop {
            let told = js(async {
                match within(DEADLINE, self.call(workspace, Method::Post, "hint")).await {
                    Some(answer) => answer.map(drop).map_err(|error| error.to_string()),
                    None => Err("no answer in time".to_owned()),
                }
            });
            if let Err(error) = told.await {
                tracing::warn!(%workspace, error, "live hint lost");
            }
            let mut telling = locked(&self.telling);
            match telling.get_mut(&workspace) {
                Some(again) if *again => *again = false,
                _ => {
                    telling.remove(&workspace);
                    return;
                }
            }
        }
    }

    #[expect(clippy::future_not_send, reason = "its callers wrap it")]
    async fn call(&self, workspace: Id<Workspace>, method: Method, what: &str) -> worker::Result<Response> {
        let mut init = RequestInit::new();
        init.with_method(method);
        if what == "listen" {
            init.headers.set("upgrade", "websocket")?;
        }
        // The host is nobody's: the request goes to the object.
        let request = Request::new_with_init(&format!("https://workspace/{what}"), &init)?;
        self.objects.get_by_name(&workspace.to_string())?.fetch_with_request(request).await
    }
}

#[async_trait]
impl Feed for CloudFeed {
    async fn publish(&self, workspace: Id<Workspace>) -> PortResult<()> {
        {
            let mut telling = locked(&self.telling);
            if let Some(again) = telling.get_mut(&workspace) {
                *again = true;
                return Ok(());
            }
            telling.insert(workspace, false);
        }
        let task = Box::pin(self.clone().tell(workspace));
        self.background.spawn(task).inspect_err(|_| {
            locked(&self.telling).remove(&workspace);
        })
    }

    async fn subscribe(&self, workspace: Id<Workspace>) -> PortResult<Hints> {
        let operation = "feed.subscribe";
        let lost = |error: String| PortError::new(ErrorKind::Unavailable, operation, error);
        js(async {
            let answer = within(DEADLINE, self.call(workspace, Method::Get, "listen"))
                .await
                .ok_or_else(|| lost("no answer in time".to_owned()))?
                .map_err(|error| lost(error.to_string()))?;
            let status = answer.status_code();
            let upgraded: Upgraded = JsValue::from(web_sys_response(answer)).unchecked_into();
            let socket = match upgraded.socket() {
                Some(socket) => socket,
                None if status == 429 => {
                    return Err(PortError::new(ErrorKind::Full, operation, "too many listeners"));
                }
                None => return Err(lost(format!("the workspace's object answers {status}"))),
            };
            let listening = Listening::begin(socket).map_err(|error| lost(crate::js::message(&error)))?;
            Ok(Box::pin(stream::poll_fn(move |context| listening.poll(context))) as Hints)
        })
        .await
    }
}

/// JavaScript's own answer.
fn web_sys_response(answer: Response) -> worker::worker_sys::web_sys::Response {
    answer.into()
}

/// A socket that hints come from; it closes with this value.
struct Listening {
    socket: SendWrapper<Socket>,
    heard: SendWrapper<Closure<dyn FnMut()>>,
    ended: SendWrapper<Closure<dyn FnMut()>>,
    news: Arc<Mutex<News>>,
}

/// Any number of hints that were not looked at are one.
#[derive(Default)]
struct News {
    hinted: bool,
    over: bool,
    waker: Option<Waker>,
}

impl Listening {
    fn begin(socket: Socket) -> Result<Self, JsValue> {
        let news = Arc::new(Mutex::new(News::default()));
        let note = |change: fn(&mut News)| {
            let news = Arc::clone(&news);
            Closure::<dyn FnMut()>::new(move || {
                let waker = {
                    let mut news = locked(&news);
                    change(&mut news);
                    news.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            })
        };
        let heard = note(|news| news.hinted = true);
        let ended = note(|news| news.over = true);
        socket.listen("message", heard.as_ref().unchecked_ref());
        socket.listen("close", ended.as_ref().unchecked_ref());
        socket.listen("error", ended.as_ref().unchecked_ref());
        socket.accept()?;
        Ok(Self {
            socket: SendWrapper::new(socket),
            heard: SendWrapper::new(heard),
            ended: SendWrapper::new(ended),
            news,
        })
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Option<()>> {
        let mut news = locked(&self.news);
        if std::mem::take(&mut news.hinted) {
            return Poll::Ready(Some(()));
        }
        if news.over {
            return Poll::Ready(None);
        }
        news.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.socket.unlisten("message", self.heard.as_ref().unchecked_ref());
        self.socket.unlisten("close", self.ended.as_ref().unchecked_ref());
        self.socket.unlisten("error", self.ended.as_ref().unchecked_ref());
        // One that is closed already stays so.
        let _ = self.socket.close(1000);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the object of a workspace does with a request: `POST hint` tells every listener, `GET listen` is a new one's
/// socket, `GET count` says how many there are.
///
/// # Errors
/// What the platform answers.
pub fn answer(state: &State, request: &Request) -> worker::Result<Response> {
    match (request.method(), request.path().as_str()) {
        (Method::Post, "/hint") => {
            for socket in state.get_websockets() {
                // One that is just closing needs no hint.
                let _ = socket.send_with_str("");
            }
            Response::empty().map(|answer| answer.with_status(204))
        }
        (Method::Get, "/listen") => {
            if state.get_websockets().len() >= LISTENERS {
                return Response::error("too many listeners", 429);
            }
            let pair = WebSocketPair::new()?;
            state.accept_web_socket(&pair.server);
            Response::from_websocket(pair.client)
        }
        (Method::Get, "/count") => Response::ok(state.get_websockets().len().to_string()),
        _ => Response::error("no such call", 404),
    }
}
