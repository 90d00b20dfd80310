//! The main job: the six lines as a person types them, unattended.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::flare::{EXE, Place, Server, have, run};

/// The lines, with this server's URL and the ids that each line printed.
fn six_lines(place: &Place, server: &Server) {
    let sh = |line: &str| {
        let dir = std::path::Path::new(EXE).parent().expect("a folder");
        let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
        run(place.command("sh").args(["-c", line]).env("PATH", path)).ok()
    };
    let url = &server.url;
    let account = sh(&format!("flare auth register --email you@example.com --url {url} --json")).json();
    assert_eq!(account["user"]["email"], "you@example.com");
    assert_eq!(account["recovery_codes"].as_array().map(Vec::len), Some(10));
    assert!(account["workspace"]["id"].is_string());
    assert!(!account.to_string().contains("access_token"), "no token is shown");
    let template =
        sh("flare template create node-dev --json").json()["id"].as_str().expect("an id").to_owned();
    fs::write(place.path("work/secret.txt"), "not yours").expect("written");
    let uploaded = sh(&format!("flare template upload {template} --version 1.0.0 --json"));
    assert!(uploaded.err.contains("starter"), "{uploaded:?}");
    let version = uploaded.json();
    let id = version["id"].as_str().expect("an id").to_owned();
    assert!(version["build_id"].as_str().is_some_and(|id| id.starts_with("bld_")), "{version}");
    sh(&format!("flare template promote {template} {id}"));
    let session = sh(&format!("flare session up sandbox --template {template} --json")).json();
    assert_eq!(session["state"], "running");
    let session = session["id"].as_str().expect("an id").to_owned();
    let said = sh(&format!("flare ssh {session} -- 'cat built.txt; ls'"));
    assert!(said.out.contains("hello from /workspace"), "{said:?}");
    assert!(!said.out.contains("secret.txt"), "nothing of the folder is uploaded without flare.toml");
    let code = run(place.command(EXE).args(["ssh", &session, "--", "exit 7"])).code;
    assert_eq!(code, 7);
}

#[test]
fn on_a_free_port() {
    if !have("ssh") {
        return;
    }
    let place = Place::new();
    let server = place.server();
    six_lines(&place, &server);
    assert_eq!(server.data, place.path("data"));
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.ended(), Some(0));
}

/// On the default port, in a network of its own where this user may make one, so that a server that is at work here
/// is in nobody's way.
#[test]
fn on_the_default_port() {
    if !have("ssh") {
        return;
    }
    if std::env::var_os("FLARE_TEST_OWN_NETWORK").is_none() {
        let here = std::env::current_exe().expect("this test");
        let inside = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
            .arg(here)
            .args(["--exact", "six_lines::on_the_default_port", "--nocapture"])
            .env("FLARE_TEST_OWN_NETWORK", "1")
            .stdin(Stdio::null())
            .output();
        if let Ok(output) = &inside
            && (output.status.success() || String::from_utf8_lossy(&output.stdout).contains("running 1 test"))
        {
            assert!(
                output.status.success(),
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            return;
        }
        if TcpListener::bind("127.0.0.1:8787").is_err() {
            eprintln!("SKIPPED: port 8787 is taken, and no network of one's own can be made");
            return;
        }
    }
    let place = Place::new();
    let server = place.server_with(&[]);
    assert_eq!(server.url, "http://127.0.0.1:8787");
    six_lines(&place, &server);
}
