//! `/v1/files` and `/v1/search`.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burstflare_ports::wire::Refusal;
use burstflare_ports::wire::files::{FileInfo, FileKind, FolderPage, Found, KIND_HEADER};
use burstflare_ports::wire::path;
use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;

use crate::machine::{Machine, eventually, give_away};

/// A call's answer.
struct Answer {
    status: u16,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Answer {
    fn code(&self) -> String {
        serde_json::from_slice::<Refusal>(&self.bytes).unwrap().code
    }

    #[track_caller]
    fn info(&self) -> FileInfo {
        assert_eq!(self.status, 200, "{:?}", self.bytes);
        serde_json::from_slice(&self.bytes).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn query(path_bytes: &[u8], rest: &str) -> String {
    let text: String = form_urlencoded::byte_serialize(path::encode(path_bytes).as_bytes()).collect();
    format!("/v1/files?path={text}{rest}")
}

async fn ask(
    machine: &Machine,
    method: Method,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let response = machine.open_with(method, uri, headers, body).await;
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status.as_u16(), headers: head.headers, bytes }
}

async fn get(machine: &Machine, path: &[u8]) -> Answer {
    ask(machine, Method::GET, &query(path, ""), &[], "").await
}

async fn put(machine: &Machine, path: &[u8], headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    ask(machine, Method::PUT, &query(path, ""), headers, body).await
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn every_byte_and_every_name_come_back() {
    let machine = Machine::start();
    let root = machine.roots[0].clone();
    let content: Vec<u8> = (0..=255).cycle().take(1_000_003).collect();
    for name in
        [&b"plain"[..], b"with space", b"\xff\xfe", b"100%", b"new\nline", "gr\u{fc}n".as_bytes(), b"?&=#+"]
    {
        let written = put(&machine, name, &[], content.clone()).await.info();
        let file = root.join(std::ffi::OsStr::from_bytes(name));
        assert!(std::fs::read(&file).unwrap() == content, "{name:?}");
        assert_eq!((written.kind, written.size, written.mode), (FileKind::File, 1_000_003, 0o644));
        let absolute = [root.as_os_str().as_bytes(), b"/", name].concat();
        assert_eq!(path::decode(&written.path).unwrap(), absolute);
        let read = get(&machine, &absolute).await;
        assert!(read.bytes == content);
        assert_eq!(
            (read.header("etag"), read.header(KIND_HEADER)),
            (written.etag.as_deref().unwrap(), "file")
        );
        assert_eq!(read.header("content-length"), "1000003");
    }
    put(&machine, b"empty", &[], "").await.info();
    let empty = get(&machine, b"empty").await;
    assert_eq!((empty.status, empty.bytes.len(), empty.header("content-length")), (200, 0, "0"));
    let (status, _) = machine.get("/v1/files?path=a&path=b").await;
    assert_eq!(status, 400);
    assert!(!names(&root).iter().any(|name| name.starts_with(".flare")), "nothing is left behind");
}

#[tokio::test]
async fn ranges_and_conditions_of_readers() {
    let machine = Machine::start();
    let tag = put(&machine, b"f", &[], "0123456789").await.info().etag.unwrap();
    let with = |headers: Vec<(&'static str, String)>| {
        let machine = &machine;
        async move {
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            ask(machine, Method::GET, &query(b"f", ""), &headers, "").await
        }
    };
    let part = with(vec![("range", "bytes=2-4".into())]).await;
    assert_eq!(
        (part.status, &part.bytes[..], part.header("content-range")),
        (206, &b"234"[..], "bytes 2-4/10")
    );
    assert_eq!(&with(vec![("range", "bytes=-3".into())]).await.bytes[..], b"789");
    let beyond = with(vec![("range", "bytes=10-".into())]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */10"));
    let known = with(vec![("if-none-match", tag.clone())]).await;
    assert_eq!((known.status, known.bytes.len(), known.header("etag")), (304, 0, tag.as_str()));
    assert_eq!(with(vec![("if-match", "\"x\"".into())]).await.status, 412);
    assert_eq!(with(vec![("range", "bytes=0-0".into()), ("if-range", "\"x\"".into())]).await.bytes.len(), 10);
    assert_eq!(with(vec![("range", "bytes=0-0".into()), ("if-range", tag)]).await.bytes.len(), 1);
}

#[tokio::test]
async fn of_writers_with_one_tag_one_wins() {
    let machine = Arc::new(Machine::start());
    let mut tag = put(&machine, b"f", &[], "first").await.info().etag.unwrap();
    for round in 0..20 {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (machine, tag) = (Arc::clone(&machine), tag.clone());
                tokio::spawn(async move {
                    // Of one length, so that only times and inodes tell the versions apart.
                    let body = format!("{round:03}-{writer}");
                    (put(&machine, b"f", &[("if-match", &tag)], body.clone()).await, body)
                })
            })
            .collect();
        let mut won = Vec::new();
        for writer in writers {
            let (answer, body) = writer.await.unwrap();
            match answer.status {
                200 => won.push((answer.info().etag.unwrap(), body)),
                412 => assert_eq!(answer.code(), "changed"),
                other => panic!("{other}: {:?}", answer.bytes),
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        let (new, body) = won.pop().unwrap();
        assert_eq!(std::fs::read_to_string(machine.roots[0].join("f")).unwrap(), body);
        assert_ne!(new, tag);
        tag = new;
    }
    // Of those who want to be the first, one is.
    let makers: Vec<_> = (0..6)
        .map(|_| {
            let machine = Arc::clone(&machine);
            tokio::spawn(async move { put(&machine, b"new", &[("if-none-match", "*")], "x").await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for maker in makers {
        statuses.push(maker.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412]);
    // A process of the session is a writer like any other.
    let tag = get(&machine, b"f").await.header("etag").to_owned();
    machine.sh("echo changed > f").await;
    assert_eq!(put(&machine, b"f", &[("if-match", &tag)], "lost").await.code(), "changed");
    assert_eq!(put(&machine, b"gone", &[("if-match", "*")], "x").await.status, 412);
}

#[tokio::test]
async fn modes_and_times_are_kept_or_set() {
    let machine = Machine::start();
    let file = machine.roots[0].join("f");
    put(&machine, b"f", &[], "x").await.info();
    set_mode(&file, 0o4751);
    assert_eq!(put(&machine, b"f", &[], "y").await.info().mode, 0o751, "without the set-id bit");
    let uri = query(b"f", "&mode=600&mtime_ns=1000000000000000123");
    let set = ask(&machine, Method::PUT, &uri, &[], "z").await.info();
    assert_eq!((set.mode, set.mtime_ns), (0o600, 1_000_000_000_000_000_123));
    let read = get(&machine, b"f").await;
    assert_eq!(
        (read.header("flare-file-mode"), read.header("flare-file-mtime")),
        ("600", "1000000000000000123")
    );
    let deep = ask(&machine, Method::PUT, &query(b"a/b/c", "&parents=true"), &[], "x").await.info();
    assert!(deep.path.ends_with("/a/b/c"));
    for bad in ["&mode=1777", "&mode=9", "&mtime_ns=x", "&parents=1", "&other=1"] {
        assert_eq!(ask(&machine, Method::PUT, &query(b"f", bad), &[], "x").await.status, 400, "{bad}");
    }
}

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

#[tokio::test]
async fn folders_are_listed_in_pages() {
    let machine = Machine::start();
    machine.sh("mkdir d; cd d; for i in $(seq 1 450); do : > f$i; done; mkdir sub; ln -s f1 link").await;
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let uri = query(b"d", &format!("&limit=100{after}"));
        let answer = ask(&machine, Method::GET, &uri, &[], "").await;
        assert_eq!(answer.header(KIND_HEADER), "folder");
        let page: FolderPage = serde_json::from_slice(&answer.bytes).unwrap();
        assert!(page.items.len() <= 100);
        all.extend(page.items.iter().map(|item| item.path.rsplit('/').next().unwrap().to_owned()));
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(all, names(&machine.roots[0].join("d")), "sorted, whole, nothing twice");
    let link = ask(&machine, Method::GET, &query(b"d/link", "&stat=true"), &[], "").await.info();
    assert_eq!((link.kind, link.link.as_deref()), (FileKind::Link, Some("f1")));
}

#[tokio::test]
async fn names_come_move_and_go() {
    let machine = Machine::start();
    let change = |body: &'static str| ask(&machine, Method::POST, "/v1/files", &[], body);
    assert_eq!(change(r#"{"action":"mkdir","path":"a/b"}"#).await.code(), "no_such_file");
    assert_eq!(
        change(r#"{"action":"mkdir","path":"a/b","parents":true}"#).await.info().kind,
        FileKind::Folder
    );
    assert_eq!(change(r#"{"action":"mkdir","path":"a/b","parents":true}"#).await.status, 200);
    assert_eq!(change(r#"{"action":"mkdir","path":"a/b"}"#).await.code(), "exists");
    put(&machine, b"f", &[], "f").await.info();
    put(&machine, b"g", &[], "g").await.info();
    assert_eq!(change(r#"{"action":"mkdir","path":"f","parents":true}"#).await.code(), "exists");
    assert_eq!(change(r#"{"action":"rename","path":"f","to":"g"}"#).await.code(), "exists");
    assert_eq!(change(r#"{"action":"rename","path":"f","to":"g","replace":true}"#).await.status, 200);
    assert_eq!(get(&machine, b"g").await.bytes, "f");
    assert_eq!(change(r#"{"action":"rename","path":"a","to":"a/b/c"}"#).await.status, 400);
    assert_eq!(change(r#"{"action":"rename","path":"nothing","to":"x"}"#).await.code(), "no_such_file");
    assert_eq!(change(r#"{"action":"chmod","path":"f"}"#).await.status, 400);
    let delete = |path: &'static [u8], rest: &'static str, tag: &'static str| {
        let headers: Vec<(&str, &str)> =
            Some(("if-match", tag)).filter(|_| !tag.is_empty()).into_iter().collect();
        let machine = &machine;
        async move { ask(machine, Method::DELETE, &query(path, rest), &headers, "").await }
    };
    machine.sh("mkdir -p a/b/c; echo x > a/b/c/f; ln -s / a/b/root; chmod 000 a/b/c").await;
    assert_eq!(delete(b"a", "", "").await.code(), "not_empty");
    assert_eq!(
        delete(b"a", "&recursive=true", "").await.status,
        204,
        "links in it are deleted, not followed"
    );
    assert_eq!(delete(b"a", "", "").await.code(), "no_such_file");
    assert_eq!(delete(b"g", "", "\"other\"").await.code(), "changed");
    assert_eq!(delete(b"g", "", "").await.status, 204);
    assert!(names(&machine.roots[0]).is_empty());
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let machine = Machine::start();
    put(&machine, b"f", &[], "before").await.info();
    let mut stream = tokio::net::UnixStream::connect(machine.socket()).await.unwrap();
    let head = format!(
        "PUT /v1/files?path=f HTTP/1.1\r\nhost: agent\r\nauthorization: Bearer {}\r\nflare-epoch: {}\r\n\
         content-length: 1000000\r\n\r\n",
        crate::machine::KEY,
        crate::machine::EPOCH
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; 500_000]).await.unwrap();
    let staged = || names(&machine.roots[0]).len() == 2;
    eventually("a draft", staged).await;
    assert_eq!(get(&machine, b"f").await.bytes, "before", "half of it is never seen");
    drop(stream);
    eventually("the draft's end", || names(&machine.roots[0]) == ["f"]).await;
    assert_eq!(get(&machine, b"f").await.bytes, "before");
}

#[tokio::test]
async fn who_is_refused_in_the_middle_of_a_body_reads_why() {
    let machine = Machine::start();
    for _ in 0..10 {
        let answer = put(&machine, b"none/f", &[], vec![0; 4 << 20]).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "no_such_file"));
    }
}

#[tokio::test]
async fn large_files_flow_both_ways_and_the_agent_stays_small() {
    let machine = Machine::start();
    let size = 96 << 20;
    let big: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(size).collect();
    let big = Bytes::from(big);
    put(&machine, b"big", &[], big.clone()).await.info();
    let read = get(&machine, b"big").await;
    assert!(read.bytes == big);
    // A reader that stands still holds a few chunks, not the file.
    let mut standing = Vec::new();
    for _ in 0..8 {
        standing.push(machine.open(Method::GET, &query(b"big", ""), "").await);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    eprintln!("resident at most: {kib} KiB");
    assert!(kib < 64 << 10, "{kib} KiB resident");
}

#[tokio::test]
async fn names_and_texts_are_found_within_bounds() {
    let machine = Machine::start();
    machine
        .sh("mkdir -p src/deep; printf 'one\\ntwo needle\\nthree needle\\n' > src/a.rs; printf 'needle' > src/deep/b.txt; \
             printf 'x\\0needle\\n\\377' > src/bin.rs; ln -s / src/root; ln -s . src/loop; mkfifo src/pipe.rs; \
             ln -s a.rs src/link.rs; touch src/closed.rs; chmod 000 src/closed.rs")
        .await;
    let search = |rest: &'static str| {
        let machine = &machine;
        async move {
            let answer = ask(machine, Method::GET, &format!("/v1/search?{rest}"), &[], "").await;
            assert_eq!(answer.status, 200, "{rest}: {:?}", answer.bytes);
            serde_json::from_slice::<Found>(&answer.bytes).unwrap()
        }
    };
    let paths = |found: &Found| {
        let mut paths: Vec<String> = found
            .items
            .iter()
            .map(|hit| {
                format!(
                    "{}:{}",
                    PathBuf::from(&hit.path).file_name().unwrap().to_str().unwrap(),
                    hit.line.unwrap_or(0)
                )
            })
            .collect();
        paths.sort();
        paths
    };
    let found = search("name=*.rs").await;
    assert_eq!(paths(&found), ["a.rs:0", "bin.rs:0", "closed.rs:0", "link.rs:0", "pipe.rs:0"]);
    assert_eq!((found.cut, found.looked_at), (None, 10));
    let found = search("text=needle").await;
    assert_eq!(paths(&found), ["a.rs:2", "a.rs:3", "b.txt:1", "bin.rs:1"]);
    let line = found.items.iter().find(|hit| hit.path.ends_with("bin.rs")).unwrap();
    assert_eq!(line.text.as_deref(), Some("x%00needle"));
    assert_eq!(paths(&search("text=needle&name=*.txt&path=src/deep").await), ["b.txt:1"]);
    assert_eq!(paths(&search("text=%25FF").await), ["bin.rs:2"], "a byte that is no text");
    assert_eq!(search("text=needle&limit=1").await.items.len(), 1);
    for bad in ["", "?name=", "?text=%25", "?name=a&path=/etc", "?name=a&limit=x"] {
        let answer = ask(&machine, Method::GET, &format!("/v1/search{bad}"), &[], "").await;
        assert!(matches!(answer.status, 400 | 403), "{bad}");
    }
}
