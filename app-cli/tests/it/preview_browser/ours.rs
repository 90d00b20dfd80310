//! Names, the desktop, and pages of our own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Stage;
use crate::flare::{EXE, PATIENCE, have, wait};

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
