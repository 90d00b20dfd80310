//! Files through the API: what is written is read back, by one at a time.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use burstflare_ports::wire::files::{FileKind, FolderPage, Found, KIND_HEADER};
use burstflare_ports::wire::path;
use http::Method;

use crate::files_call::{ask, get, names, put, query, set_mode};
use crate::machine::Machine;

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
