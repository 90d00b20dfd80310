//! Files through the API: nothing leads out of the roots, and nothing but files is opened.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burstflare_ports::wire::files::FileKind;
use http::Method;

use crate::files_call::{ask, get, names, put, query};
use crate::machine::{Machine, give_away};

#[tokio::test]
async fn nothing_leads_out() {
    let machine = Machine::start();
    let scratch = machine.scratch();
    std::fs::write(scratch.join("secret"), "s").unwrap();
    let at = |name: &str| machine.roots[0].join(name);
    symlink(&scratch, at("absolute")).unwrap();
    symlink("../scratch", at("relative")).unwrap();
    symlink("/proc/self/root", at("magic")).unwrap();
    symlink(format!("/proc/{}/fd", machine.pid()), at("fds")).unwrap();
    symlink("../scratch/secret", at("file")).unwrap();
    std::fs::create_dir(at("d")).unwrap();
    std::fs::write(at("d/f"), "inside").unwrap();
    symlink("d", at("in")).unwrap();
    give_away(&machine.roots[0]);
    let secret = scratch.join("secret");
    for path in [
        &b"absolute/secret"[..],
        b"relative/secret",
        b"magic/etc/passwd",
        b"fds/3",
        b"file",
        b"/etc/passwd",
        b"/",
        secret.as_os_str().as_bytes(),
    ] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            if path == b"file" && method != Method::GET {
                continue;
            }
            let answer = ask(&machine, method.clone(), &query(path, ""), &[], "x").await;
            assert_eq!((answer.status, answer.code().as_str()), (403, "outside"), "{method} {path:?}");
        }
    }
    for path in [&b"../scratch/secret"[..], b"d/../../scratch/secret", b"..", b"a\0b", b""] {
        assert_eq!(get(&machine, path).await.status, 400, "{path:?}");
    }
    assert_eq!(
        get(&machine, b"in/f").await.bytes,
        "inside",
        "a link that stays inside is a way like any other"
    );
    assert_eq!(put(&machine, b"file", &[], "x").await.code(), "is_link");
    assert_eq!(
        ask(&machine, Method::DELETE, &query(b"file", ""), &[], "").await.status,
        204,
        "the link itself"
    );
    for (action, other) in [("mkdir", "relative/new"), ("mkdir", "absolute/new")] {
        let body = format!(r#"{{"action":"{action}","path":"{other}","parents":true}}"#);
        assert_eq!(ask(&machine, Method::POST, "/v1/files", &[], body).await.code(), "outside");
    }
    for (from, to) in [("relative/secret", "mine"), ("d/f", "relative/f"), ("absolute/secret", "mine")] {
        let body = format!(r#"{{"action":"rename","path":"{from}","to":"{to}","replace":true}}"#);
        assert_eq!(ask(&machine, Method::POST, "/v1/files", &[], body).await.code(), "outside");
    }
    let long = vec![b'n'; 256];
    assert_eq!(get(&machine, &long).await.code(), "invalid");
    assert_eq!(get(&machine, "d/".repeat(3000).as_bytes()).await.code(), "invalid");
    assert_eq!(names(&scratch), ["secret"]);
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "s");
}

/// A folder is swapped for a link to elsewhere, again and again, while files below it are read, written and deleted.
#[tokio::test]
async fn a_swap_in_the_middle_leads_nowhere() {
    let machine = Machine::start();
    let scratch = machine.scratch();
    std::fs::write(scratch.join("f"), "secret").unwrap();
    give_away(&scratch);
    let root = machine.roots[0].clone();
    std::fs::create_dir(root.join("real")).unwrap();
    std::fs::write(root.join("real/f"), "inside").unwrap();
    symlink(&scratch, root.join("link")).unwrap();
    give_away(&root);
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = std::thread::spawn({
        let (stop, root) = (Arc::clone(&stop), root.clone());
        move || {
            let exchange = |one: &str, other: &str| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    root.join(one),
                    rustix::fs::CWD,
                    root.join(other),
                    flags,
                )
            };
            let mut swaps = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                exchange("real", "link").unwrap();
                swaps += 1;
            }
            swaps
        }
    });
    let (mut inside, mut refused) = (0, 0);
    for round in 0..300 {
        let read = get(&machine, b"real/f").await;
        match read.status {
            200 => {
                assert_ne!(read.bytes, "secret");
                inside += 1;
            }
            _ => refused += 1,
        }
        put(&machine, b"real/f", &[], format!("inside {round}")).await;
        put(&machine, b"real/g", &[], "x").await;
        ask(&machine, Method::DELETE, &query(b"real/g", ""), &[], "").await;
    }
    stop.store(true, Ordering::Relaxed);
    let swaps = swapping.join().unwrap();
    eprintln!("{swaps} swaps; read inside {inside} times, refused {refused} times");
    assert_eq!(names(&scratch), ["f"]);
    assert_eq!(std::fs::read_to_string(scratch.join("f")).unwrap(), "secret");
}

#[tokio::test]
async fn only_files_are_opened() {
    let machine = Machine::start();
    machine.sh("mkfifo pipe; mkdir folder; touch closed; chmod 000 closed").await;
    let socket = std::os::unix::net::UnixListener::bind(machine.roots[0].join("socket")).unwrap();
    for name in [&b"pipe"[..], b"socket"] {
        assert_eq!(get(&machine, name).await.code(), "not_file");
        assert_eq!(put(&machine, name, &[], "x").await.code(), "not_file");
        let told = ask(&machine, Method::GET, &query(name, "&stat=true"), &[], "").await.info();
        assert_eq!((told.kind, told.etag), (FileKind::Other, None));
    }
    drop(socket);
    assert_eq!(put(&machine, b"folder", &[], "x").await.code(), "is_folder");
    assert_eq!(get(&machine, b"closed").await.code(), "denied");
    assert_eq!(get(&machine, b"none").await.code(), "no_such_file");
    assert_eq!(put(&machine, b"none/f", &[], "x").await.code(), "no_such_file");
    assert_eq!(put(&machine, b"pipe/f", &[], "x").await.code(), "not_folder");
    assert_eq!(get(&machine, b"").await.status, 400);
    for root in &machine.roots {
        let root = root.as_os_str().as_bytes();
        assert_eq!(
            ask(&machine, Method::DELETE, &query(root, "&recursive=true"), &[], "").await.code(),
            "is_root"
        );
        assert_eq!(put(&machine, root, &[], "x").await.code(), "is_folder");
    }
}
