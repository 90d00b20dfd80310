//! Attacks on previews that only a browser can make, as it decides which cookies go where. Each test says what would go
//! wrong.
//!
//! To a browser the previews of one server are one site, and the server's own pages, like the evil ones here, are others.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::browser::{Browser, Page};
use crate::flare::{EXE, PATIENCE, have, wait};
use crate::preview::World;

const MANIFEST: &str = r#"on_start = "exec python3 /workspace/app.py"
[[ports]]
port = 3000
name = "a"
[[ports]]
port = 3001
name = "b"
"#;

/// The same application twice, on two origins. It notes all that reaches it, allows everybody everything by CORS, and sets
/// the cookies that it is asked for.
const APP: &str = r#"
import base64, hashlib, http.server, json, threading, urllib.parse
seen = []
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def answer(self):
        length = int(self.headers.get('Content-Length') or 0)
        self.rfile.read(length)
        path, _, query = self.path.partition('?')
        port = self.server.server_address[1]
        if path == '/seen':
            return self.reply('application/json', json.dumps(seen))
        seen.append({'port': port, 'method': self.command, 'path': self.path, 'headers': str(self.headers)})
        if path == '/socket' and self.headers.get('Upgrade') == 'websocket':
            return self.socket()
        cookies = urllib.parse.parse_qs(query).get('cookie', [])
        self.reply('text/html', '<!doctype html><title>%d</title><body>application %d' % (port, port), cookies)
    do_GET = do_POST = do_PUT = do_OPTIONS = answer
    def reply(self, kind, text, cookies=[]):
        self.send_response(200)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(text)))
        self.send_header('Access-Control-Allow-Origin', self.headers.get('Origin') or '*')
        self.send_header('Access-Control-Allow-Credentials', 'true')
        self.send_header('Access-Control-Allow-Methods', 'PUT')
        self.send_header('Access-Control-Allow-Headers', 'x-own, flare-authorization')
        for cookie in cookies: self.send_header('Set-Cookie', cookie)
        self.end_headers()
        self.wfile.write(text.encode())
    def socket(self):
        key = self.headers['Sec-WebSocket-Key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
        self.send_response(101)
        self.send_header('Upgrade', 'websocket')
        self.send_header('Connection', 'Upgrade')
        self.send_header('Sec-WebSocket-Accept', base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.wfile.flush()
        while self.connection.recv(65536): pass
        self.close_connection = True
    def log_message(self, *args): pass
for port in (3001, 3000):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', port), App)
    threading.Thread(target=server.serve_forever).start()
"#;

/// Our cookie's name where the server speaks plain http.
const COOKIE: &str = "flare-preview";

/// Two previews of a session, a browser, and somebody else's site.
struct Stage {
    world: World,
    browser: Browser,
    evil: String,
}

impl Stage {
    fn new() -> Option<Self> {
        let browser = Browser::new()?;
        let world = World::with(MANIFEST, APP)?;
        world.until(|items| items.iter().filter(|port| port["open"] == true).count() == 2);
        Some(Self { world, browser, evil: evil() })
    }

    /// The origin of a port.
    fn at(&self, port: u16) -> String {
        format!("http://{}", self.world.host_of(port))
    }

    /// The server's own for browsers.
    fn ours(&self) -> String {
        format!("http://flare.localhost:{}", self.world.port())
    }

    /// The address that lets a browser in, once.
    fn ticket(&self, port: u16, to: &str) -> String {
        let opened = self.world.place.flare(["open", "s", &port.to_string(), "--print"]).ok();
        format!("{}&to={to}", opened.out.trim())
    }

    fn enter(&self, page: &Page<'_>, port: u16) {
        page.go(&self.ticket(port, "/"));
        assert_eq!(page.text("document.title"), port.to_string());
    }

    /// What reached the applications so far.
    fn seen(&self) -> Vec<Value> {
        let (head, text) = self.world.ask("GET /seen", &[("Flare-Authorization", &self.world.bearer())]);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        serde_json::from_str(&text).expect("a list")
    }

    /// What reached one of them under a path.
    fn reached(&self, port: u16, path: &str) -> Vec<Value> {
        let seen = self.seen().into_iter();
        let ours = |one: &Value| {
            one["port"] == port && one["path"].as_str().is_some_and(|other| other.starts_with(path))
        };
        seen.filter(ours).collect()
    }
}

/// A site of somebody else on this machine, which serves an empty page; answers its origin.
fn evil() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 8192]);
                let page = "<!doctype html><title>evil</title><body>";
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close";
                let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
            });
        }
    });
    format!("http://evil.localhost:{port}")
}

/// Opens a WebSocket; whether it opened.
fn socket(url: &str) -> String {
    format!(
        "new Promise((open, shut) => {{ const s = new WebSocket('{url}'); s.onopen = open; s.onerror = shut }})"
    )
}

/// Sends a form to an address.
fn form(url: &str) -> String {
    format!(
        "const f = document.createElement('form'); f.method = 'POST'; f.action = '{url}'; f.enctype = 'text/plain';
         document.body.append(f); f.submit()"
    )
}

/// Puts an address in a frame; resolves when something is there.
fn frame(url: &str) -> String {
    format!(
        "new Promise(done => {{ const f = document.createElement('iframe'); f.onload = done; f.src = '{url}';
         document.body.append(f) }}).then(() => true)"
    )
}

/// Otherwise a link with a ticket that somebody sees in a history, a log or a `Referer` would let them in, and a script of
/// the application, or another preview, would hold the visitor's cookie.
#[test]
fn a_ticket_becomes_a_cookie_of_this_host_alone_and_leaves_no_trace() {
    let Some(stage) = Stage::new() else { return };
    let page = stage.browser.page();
    let wanted = format!("{}/page?q=1", stage.at(3000));
    page.go(&wanted);
    assert!(page.text("location.href").starts_with(&format!("{}/previews/ses_", stage.ours())));
    assert!(page.words().contains("flare open ses_"), "{}", page.words());
    assert!(stage.seen().is_empty(), "a stranger reaches no application");

    let link = stage.ticket(3000, "/page?q=1");
    page.go(&link);
    assert_eq!(page.text("location.href"), wanted);
    assert_eq!(page.text("document.referrer"), "");
    assert_eq!(page.text("document.cookie"), "", "no script reads it");
    assert!(page.succeeds("fetch('/more').then(a => a.ok || Promise.reject())"));
    let history = page.call("Page.getNavigationHistory", &serde_json::json!({}))["entries"].clone();
    let visited: Vec<_> = history.as_array().expect("entries").iter().map(|entry| &entry["url"]).collect();
    assert_eq!(visited.last(), Some(&&Value::from(wanted.as_str())), "{history}");
    assert!(visited.iter().all(|url| !url.to_string().contains("/.flare/")), "{history}");
    let cookies = page.cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let cookie = &cookies[0];
    let host = stage.world.host_of(3000);
    let (host, _) = host.rsplit_once(':').expect("a port");
    assert_eq!((&cookie["name"], &cookie["domain"]), (&COOKIE.into(), &host.into()), "host-only");
    assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&true.into(), &"Lax".into()));
    assert_eq!((&cookie["path"], &cookie["session"]), (&"/".into(), &false.into()));

    // A sibling does not get it.
    page.go(&format!("{}/page", stage.at(3001)));
    assert!(page.words().contains("flare open"), "{}", page.words());
    let seen = stage.seen();
    assert!(stage.reached(3001, "/").is_empty(), "{seen:?}");
    let told = Value::from(seen).to_string();
    assert!(told.contains("/page?q=1") && told.contains("/more"), "{told}");
    assert!(!told.contains("ticket") && !told.contains(COOKIE), "{told}");

    page.go(&link);
    assert!(page.words().contains("opens nothing"), "a ticket works once: {}", page.words());
    page.go(&wanted);
    assert_eq!(page.text("document.title"), "3000", "and harms nobody afterwards");
}

/// Otherwise an application could sign visitors of another preview out, or in with a cookie of its own choice, by cookies
/// for the domain that all previews share.
#[test]
fn tossed_cookies_sign_nobody_in_and_nobody_out() {
    let Some(stage) = Stage::new() else { return };
    let (evil, victim) = (stage.browser.page(), stage.browser.page());
    stage.enter(&evil, 3000);
    stage.enter(&victim, 3001);
    // Browsers send the longer paths first, so all of them come before the true one.
    let toss = |page: &Page<'_>, value: &str| {
        page.run(&format!(
            "for (let i = 0, p = ''; i < 20; i++, p += '/deep')
               document.cookie = '{COOKIE}={value}; domain=preview.localhost; path=' + (p || '/');
             document.cookie = '={COOKIE}={value}; domain=preview.localhost';
             document.cookie = '__Host-{COOKIE}={value}; domain=preview.localhost';
             document.cookie = '{COOKIE}={value}; domain=localhost';
             document.cookie = 'theirs=1; domain=preview.localhost'"
        ));
        let held = page.cookies_when(|held| {
            held.iter().filter(|cookie| cookie["domain"] == ".preview.localhost").count() > 20
        });
        assert!(held.iter().all(|cookie| cookie["domain"] != ".localhost"), "not above the previews' domain");
    };
    toss(&evil, "evil");
    let deep = format!("/deep{}/page", "/deep".repeat(20));
    for path in ["/", "/page", "/deep/page", deep.as_str()] {
        for (page, port) in [(&victim, 3001_u16), (&evil, 3000)] {
            page.go(&format!("{}{path}", stage.at(port)));
            assert_eq!(page.text("document.title"), port.to_string(), "{path}: still in");
        }
    }
    victim.go(&format!("{}/", stage.ours()));
    assert_eq!(victim.text("document.cookie"), "", "nothing reaches the server's own pages");

    // By header the application's cookies stay its own, and ours are not its to set.
    let header = |cookie: &str| format!("fetch('/set?cookie=' + encodeURIComponent('{cookie}'))");
    for cookie in [format!("{COOKIE}=header; Path=/"), "by=header; Domain=preview.localhost".to_owned()] {
        assert!(evil.succeeds(&header(&cookie)));
    }
    let held = evil.cookies();
    assert!(held.iter().all(|cookie| cookie["value"] != "header" || cookie["name"] == "by"), "{held:?}");
    let by: Vec<_> = held.iter().filter(|cookie| cookie["name"] == "by").collect();
    assert_eq!(by.len(), 1);
    assert!(by[0]["domain"].as_str().is_some_and(|domain| domain.starts_with("3000--")), "{by:?}");
    let told = Value::from(stage.seen()).to_string();
    assert!(told.contains("theirs=1") && !told.contains(&format!("{COOKIE}=")), "{told}");

    // Nor does a true cookie of another preview open this one.
    let ours = held.iter().find(|cookie| cookie["httpOnly"] == true && cookie["domain"] == by[0]["domain"]);
    let value = ours.expect("the true one")["value"].as_str().expect("text").to_owned();
    stage.world.place.flare(["session", "ports", "s", "--set", "3000=public"]).ok();
    let stranger = stage.browser.stranger();
    stranger.go(&stage.at(3000));
    assert_eq!(stranger.text("document.title"), "3000", "public");
    toss(&stranger, &value);
    let before = stage.reached(3001, "/").len();
    stranger.go(&format!("{}/deep/page", stage.at(3001)));
    assert!(stranger.words().contains("flare open"), "{}", stranger.words());
    assert_eq!(stage.reached(3001, "/").len(), before);
}

/// Otherwise any page could press buttons in somebody's application, or make tokens with somebody's dashboard.
#[test]
fn forms_of_other_pages_do_nothing() {
    let Some(stage) = Stage::new() else { return };
    let page = stage.browser.page();
    stage.enter(&page, 3000);
    stage.enter(&page, 3001);
    let target = format!("{}/form", stage.at(3001));
    page.leave_by(&form(&target));
    assert_eq!(stage.reached(3001, "/form").len(), 1, "its own page may");

    page.go(&stage.evil);
    page.leave_by(&form(&target));
    assert!(page.words().contains("preview_private"), "the cookie stays at home: {}", page.words());
    page.go(&stage.at(3000));
    page.leave_by(&form(&target));
    assert!(page.words().contains("foreign_origin"), "a sibling's form: {}", page.words());
    assert_eq!(stage.reached(3001, "/form").len(), 1, "{:?}", stage.seen());

    for (from, code) in [(stage.evil.clone(), "foreign_origin"), (stage.at(3000), "foreign_origin")] {
        for host in ["flare.localhost", "127.0.0.1"] {
            page.go(&from);
            let api = format!("http://{host}:{}/api/v1/auth/register", stage.world.port());
            page.leave_by(&form(&api));
            assert!(page.words().contains(code), "{from} to {api}: {}", page.words());
        }
    }
}

/// Otherwise any page could read what a visitor sees in a private preview.
#[test]
fn scripts_of_other_pages_read_nothing() {
    let Some(stage) = Stage::new() else { return };
    let page = stage.browser.page();
    stage.enter(&page, 3000);
    stage.enter(&page, 3001);
    let target = format!("{}/data", stage.at(3001));
    let get = |url: &str| format!("fetch('{url}', {{ credentials: 'include' }})");
    assert!(page.succeeds(&get(&target)));
    assert_eq!(stage.reached(3001, "/data").len(), 1, "its own page may");
    for (from, status) in [(stage.evil.clone(), 401), (stage.at(3000), 403)] {
        page.go(&from);
        page.forget();
        assert!(!page.succeeds(&get(&target)), "{from}");
        assert_eq!(page.status("/data"), status, "{from}");
        // The application allows it by CORS, and is asked by itself alone.
        let put = format!(
            "fetch('{target}', {{ method: 'PUT', credentials: 'include', headers: {{ 'x-own': '1' }} }})"
        );
        assert!(!page.succeeds(&put), "{from}");
        let seen = stage.reached(3001, "/data");
        let last = seen.last().expect("the preflight");
        assert_eq!(last["method"], "OPTIONS", "{seen:?}");
        assert!(!last["headers"].as_str().expect("text").to_lowercase().contains("cookie"), "{last}");
        // Pictures, scripts and styles are asked for without CORS.
        let image = format!(
            "new Promise((ok, no) => {{ const i = new Image(); i.onload = ok; i.onerror = no; i.src = '{target}?i' }})"
        );
        page.forget();
        assert!(!page.succeeds(&image));
        assert_eq!(page.status("/data?i"), status, "{from}");
        // Who shows a token means it.
        let token = format!(
            "fetch('{target}', {{ headers: {{ 'Flare-Authorization': '{}' }} }})",
            stage.world.bearer()
        );
        assert!(page.succeeds(&token), "{from}");
    }
    let seen = stage.reached(3001, "/data");
    assert!(seen.iter().all(|one| one["method"] != "PUT"), "{seen:?}");
    assert_eq!(seen.iter().filter(|one| one["method"] == "GET").count(), 3, "{seen:?}");
    // And the API says nothing to anybody's page.
    page.go(&stage.evil);
    for host in ["flare.localhost", "127.0.0.1"] {
        assert!(!page.succeeds(&get(&format!("http://{host}:{}/api/v1/me", stage.world.port()))));
    }
}

/// Otherwise a page could lay somebody's dashboard or application invisibly under its own buttons.
#[test]
fn nothing_of_ours_and_nothing_private_is_framed() {
    let Some(stage) = Stage::new() else { return };
    let page = stage.browser.page();
    stage.enter(&page, 3000);
    stage.enter(&page, 3001);
    for from in [stage.evil.clone(), stage.at(3000)] {
        for (target, status) in [
            (format!("{}/", stage.ours()), 200),
            (format!("{}/private", stage.at(3001)), if from == stage.evil { 303 } else { 403 }),
        ] {
            page.go(&from);
            page.forget();
            page.run(&frame(&target));
            assert_eq!(page.status(&target), status, "{from}: {target}");
            // What the browser shows there is a page of its own, which nobody may look into.
            let failed = page.wait("Network.loadingFailed", |_| true);
            let told = failed.to_string();
            assert!(
                status == 403 || told.contains("BLOCKED") || told.contains("blocked"),
                "{target}: {told}"
            );
        }
    }
    assert!(stage.reached(3001, "/private").is_empty(), "{:?}", stage.seen());
}

/// Otherwise any page could speak with an application, or with a shell, as the visitor: CORS does not hold WebSockets.
#[test]
fn sockets_of_other_pages_are_refused() {
    let Some(stage) = Stage::new() else { return };
    let page = stage.browser.page();
    stage.enter(&page, 3000);
    stage.enter(&page, 3001);
    let preview = format!("ws://{}/socket", stage.world.host_of(3001));
    assert!(page.succeeds(&socket(&preview)), "its own page may");
    for from in [stage.evil.clone(), stage.at(3000)] {
        page.go(&from);
        assert!(!page.succeeds(&socket(&preview)), "{from}");
        for host in ["flare.localhost", "127.0.0.1"] {
            for path in ["ssh", "terminals/1", "exec"] {
                let api = format!("ws://{host}:{}/api/v1/sessions/s/{path}?ticket=x", stage.world.port());
                page.forget();
                assert!(!page.succeeds(&socket(&api)), "{from}");
                let told = page.wait("Network.webSocketFrameError", |_| true);
                assert!(told["errorMessage"].as_str().is_some_and(|text| text.contains("403")), "{told}");
            }
        }
    }
    assert_eq!(stage.reached(3001, "/socket").len(), 1, "{:?}", stage.seen());
}

/// Otherwise a page whose name its owner points at this machine would be of the same origin as the server. And a preview
/// whose host answered the API's paths would be a page of ours that somebody else wrote.
#[test]
fn names_that_are_not_ours_get_no_answer_and_previews_no_api() {
    let Some(stage) = Stage::new() else { return };
    let page = stage.browser.page();
    let ulid = stage.world.host_of(3000).replace("preview.localhost", "preview.example");
    for host in [format!("rebound.example:{}", stage.world.port()), ulid] {
        for path in ["/", "/api/v1/openapi.json", "/.flare/enter?ticket=x"] {
            page.go(&format!("http://{host}{path}"));
            assert!(page.words().contains("misdirected"), "{host}{path}: {}", page.words());
            assert_eq!(page.status(path), 421, "{host}{path}");
        }
        assert!(page.succeeds("fetch('/api/v1/me').then(a => a.status == 421 || Promise.reject())"));
    }
    stage.enter(&page, 3000);
    for path in ["/api/v1/me", "/healthz", "/metrics", "/assets/app.js"] {
        page.go(&format!("{}{path}", stage.at(3000)));
        assert_eq!(page.text("document.title"), "3000", "{path} is the application's");
        assert_eq!(stage.reached(3000, path).len(), 1);
    }
}

/// Otherwise everybody on the machine could read the ticket in the list of processes, and be there first.
#[test]
fn what_the_desktop_is_told_to_open_is_no_secret() {
    let Some(stage) = Stage::new() else { return };
    if !have("script") {
        return;
    }
    let place = &stage.world.place;
    let told = place.path("told");
    let opener = format!(
        "#!/bin/sh\n{{ stat -c %a \"$1\"; echo \"$*\"; }} >{0}.new\nmv {0}.new {0}\n",
        told.display()
    );
    let bin = place.path("bin");
    std::fs::create_dir(&bin).expect("made");
    std::fs::write(bin.join("xdg-open"), opener).expect("written");
    std::fs::set_permissions(bin.join("xdg-open"), PermissionsExt::from_mode(0o755)).expect("set");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
    // It is for people: only a terminal gets a browser.
    let mut command = place.command("script");
    command.args(["-qec", &format!("{EXE} open s 3000"), "/dev/null"]).env("PATH", path);
    let mut flare = command.stdout(Stdio::null()).spawn().expect("runs");
    let end = Instant::now() + PATIENCE;
    while !told.exists() {
        assert!(Instant::now() < end && flare.try_wait().expect("waits").is_none(), "never opened");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let text = std::fs::read_to_string(&told).expect("read");
    let (mode, file) = text.trim().split_once('\n').expect("two lines");
    assert_eq!(mode, "600", "{text}");
    let page = std::fs::read_to_string(file).expect("a file");
    assert!(!text.contains("flare_tk") && !page.contains("flare_tk"), "{text}{page}");
    let link = page.split_once("href=\"").expect("a link").1.split('"').next().expect("its end");
    let address = link.strip_prefix("http://").and_then(|link| link.split('/').next()).expect("an address");
    let mut guess = TcpStream::connect(address).expect("connected");
    guess.write_all(b"GET /guess HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut answer = String::new();
    guess.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("ticket"), "{answer}");

    let tab = stage.browser.page();
    tab.go(&format!("file://{file}"));
    let arrived = format!("{}/", stage.at(3000));
    tab.wait("Page.frameNavigated", |told| told["frame"]["url"] == arrived);
    let ended = wait(&mut flare).expect("it ends");
    assert!(ended.success(), "{ended}");
    assert!(!std::path::Path::new(file).exists(), "nothing is left");
    assert!(TcpStream::connect(address).is_err(), "nothing listens");
}

/// Pages of ours on a desktop and on a phone: with their style, and nothing sticks out. `PICTURES` names a folder to look at
/// them in.
#[test]
fn our_own_pages_fit_every_window() {
    let Some(stage) = Stage::new() else { return };
    let pictures = std::env::var_os("PICTURES").map(std::path::PathBuf::from);
    let page = stage.browser.page();
    let look = |name: &str, url: &str| {
        for (width, height) in [(1280, 800), (390, 844), (320, 568)] {
            let size = serde_json::json!({
                "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500
            });
            page.call("Emulation.setDeviceMetricsOverride", &size);
            page.go(url);
            let picture = page.call("Page.captureScreenshot", &serde_json::json!({ "format": "png" }));
            if let Some(folder) = &pictures {
                let bytes = STANDARD.decode(picture["data"].as_str().expect("text")).expect("base64");
                std::fs::write(folder.join(format!("{name}-{width}.png")), bytes).expect("written");
            }
            let inside = page.run("document.documentElement.scrollWidth <= innerWidth");
            assert_eq!(inside, true, "{name} at {width}");
            let style = page.text("getComputedStyle(document.querySelector('main')).borderTopLeftRadius");
            assert!(name == "home" || style != "0px", "{name} has no style");
            let icon = page.run("[...document.images].every(image => image.naturalWidth > 0)");
            assert_eq!(icon, true, "{name}");
        }
    };
    look("home", &stage.ours());
    look("entrance", &stage.at(3000));
    let link = stage.ticket(3000, "/");
    page.go(&link);
    look("refused", &link);
    page.go(&stage.ticket(3002, "/"));
    look("closed", &stage.at(3002));
    assert!(page.words().contains("Nothing listens on port 3002"), "{}", page.words());
    stage.world.place.flare(["session", "stop", "s"]).ok();
    look("asleep", &stage.at(3000));
    assert!(page.words().contains("flare session start s"), "{}", page.words());
}
