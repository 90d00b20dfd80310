//! Drives a headless Chromium over the DevTools protocol: JSON between NUL bytes on two pipes, so that nothing listens.

use std::cell::{Cell, RefCell};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::flare::{PATIENCE, have};

/// What makes a browser quiet and bounded. The switches are those that Chromium's documentation of headless mode and the
/// list for automation in GoogleChrome/chrome-launcher (docs/chrome-flags-for-tools.md) name.
const FLAGS: [&str; 12] = [
    "--headless",
    // Tests may run as root, whom Chromium's own sandbox refuses; the pages are ours.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    // A name that anybody could point at this machine (DNS rebinding).
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    "--remote-debugging-pipe",
];
/// Descriptors 3 and 4 are the protocol's.
const PIPES: &str = r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null"#;
const PAUSE: Duration = Duration::from_millis(20);

/// A browser with a profile of its own; ends when it is dropped.
pub(crate) struct Browser {
    child: Child,
    input: RefCell<ChildStdin>,
    output: Receiver<Value>,
    calls: Cell<u64>,
    /// What happened so far.
    events: RefCell<Vec<Value>>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one, where this machine has one.
    pub(crate) fn new() -> Option<Self> {
        if !have("chromium") {
            return None;
        }
        let profile = tempfile::tempdir().expect("a folder");
        let mut child = Command::new("sh")
            .args(["-c", PIPES, "sh"])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            // Everything is on this machine.
            .env_remove("http_proxy")
            .env_remove("HTTP_PROXY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("starts");
        let input = RefCell::new(child.stdin.take().expect("a pipe"));
        let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, output) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while reader.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                let Ok(message) = serde_json::from_slice(&std::mem::take(&mut message)) else { return };
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        Some(Self {
            child,
            input,
            output,
            calls: Cell::new(0),
            events: RefCell::default(),
            _profile: profile,
        })
    }

    /// Calls a method of the browser, or of a page's session.
    #[track_caller]
    fn call(&self, session: Option<&str>, method: &str, params: &Value) -> Value {
        let id = self.calls.get() + 1;
        self.calls.set(id);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.borrow_mut().write_all(&bytes).expect("the browser listens");
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let message = self.output.recv_timeout(left).unwrap_or_else(|_| panic!("no answer to {method}"));
            if message["id"] == id {
                assert_eq!(message["error"], Value::Null, "{method}: {message}");
                return message["result"].clone();
            }
            self.events.borrow_mut().push(message);
        }
    }

    /// A page among the browser's others: they share cookies.
    pub(crate) fn page(&self) -> Page<'_> {
        self.open(&json!({ "url": "about:blank" }))
    }

    /// A page of a browser that was never used.
    pub(crate) fn stranger(&self) -> Page<'_> {
        let context = self.call(None, "Target.createBrowserContext", &json!({}))["browserContextId"].clone();
        self.open(&json!({ "url": "about:blank", "browserContextId": context }))
    }

    fn open(&self, how: &Value) -> Page<'_> {
        let context = how["browserContextId"].clone();
        let target = self.call(None, "Target.createTarget", how)["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        let attached = self.call(None, "Target.attachToTarget", &attach);
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let page = Page { browser: self, session, context };
        for domain in ["Page", "Network", "Runtime"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its children end with it, also those that hang.
        if let Some(group) = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0)) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// One tab.
pub(crate) struct Page<'a> {
    browser: &'a Browser,
    session: String,
    context: Value,
}

impl Page<'_> {
    #[track_caller]
    pub(crate) fn call(&self, method: &str, params: &Value) -> Value {
        self.browser.call(Some(&self.session), method, params)
    }

    /// Types an address, and waits until what is there is loaded.
    #[track_caller]
    pub(crate) fn go(&self, url: &str) {
        self.forget();
        let gone = self.call("Page.navigate", &json!({ "url": url }));
        assert_eq!(gone["errorText"], Value::Null, "{url}: {gone}");
        self.wait("Page.loadEventFired", |_| true);
    }

    /// Forgets what happened.
    pub(crate) fn forget(&self) {
        self.browser.events.borrow_mut().retain(|event| event["sessionId"] != self.session);
    }

    /// Waits for an event of this page; answers its parameters.
    #[track_caller]
    pub(crate) fn wait(&self, method: &str, so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.happened(method).into_iter().find(&so) {
                return found;
            }
            assert!(Instant::now() < end, "never: {method}, {:?}", self.browser.events.borrow());
            if let Ok(message) = self.browser.output.recv_timeout(PAUSE) {
                self.browser.events.borrow_mut().push(message);
            }
        }
    }

    /// The parameters of this page's events of a kind.
    pub(crate) fn happened(&self, method: &str) -> Vec<Value> {
        let events = self.browser.events.borrow();
        let ours = events.iter().filter(|event| event["sessionId"] == self.session);
        ours.filter(|event| event["method"] == method).map(|event| event["params"].clone()).collect()
    }

    /// What a script of the page's own would get. Promises are waited for.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        let how = json!({
            "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true
        });
        let ran = self.call("Runtime.evaluate", &how);
        assert_eq!(ran["exceptionDetails"], Value::Null, "{script}: {ran}");
        ran["result"]["value"].clone()
    }

    /// [`Page::run`] for text.
    #[track_caller]
    pub(crate) fn text(&self, script: &str) -> String {
        self.run(script).as_str().unwrap_or_else(|| panic!("no text: {script}")).to_owned()
    }

    /// What a visitor reads.
    #[track_caller]
    pub(crate) fn words(&self) -> String {
        self.text("document.body ? document.body.innerText : ''")
    }

    /// Runs a script that leads to another page, and waits for that.
    #[track_caller]
    pub(crate) fn leave_by(&self, script: &str) {
        self.forget();
        self.run(script);
        self.wait("Page.loadEventFired", |_| true);
    }

    /// Whether a script's promise is kept; the browser says no more to the page.
    #[track_caller]
    pub(crate) fn succeeds(&self, promise: &str) -> bool {
        self.run(&format!("({promise}).then(() => true, () => false)")) == json!(true)
    }

    /// The status that the server answered a request of this page with, by the end of its address. It is told even where
    /// the page is not.
    #[track_caller]
    pub(crate) fn status(&self, end: &str) -> u64 {
        let sent = self.wait("Network.requestWillBeSent", |sent| {
            sent["request"]["url"].as_str().is_some_and(|url| url.ends_with(end))
        });
        let id = sent["requestId"].clone();
        let answered = self.wait("Network.responseReceivedExtraInfo", |told| told["requestId"] == id);
        answered["statusCode"].as_u64().expect("a status")
    }

    /// The cookies that this page's browser holds, once they are so.
    #[track_caller]
    pub(crate) fn cookies_when(&self, so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let held = self.cookies();
            if so(&held) {
                return held;
            }
            assert!(Instant::now() < end, "never so: {held:?}");
            std::thread::park_timeout(PAUSE);
        }
    }

    /// All cookies that this page's browser holds.
    pub(crate) fn cookies(&self) -> Vec<Value> {
        let mut params = json!({});
        if self.context != Value::Null {
            params["browserContextId"] = self.context.clone();
        }
        let held = self.browser.call(None, "Storage.getCookies", &params);
        held["cookies"].as_array().cloned().unwrap_or_default()
    }
}
