//! Layers: captured in one machine, lying under others; and archives that lie.

use std::io::Write as _;

use burstflare_ports::error::ErrorKind;
use burstflare_ports::machine::{DiskState, LayerRef, MachineKey, MachineRuntime as _};
use burstflare_ports::stream::Body;
use burstflare_ports::wire::frame;
use burstflare_ports::wire::tree::{Digest, Entry, FORMAT, Header, Kind, MANIFEST_MEMBER, Summary};

use crate::Body as Trial;
use crate::world::{World, key, spec};

pub(crate) fn trials() -> Vec<(&'static str, Trial)> {
    vec![
        ("a_layer_lies_under_machines_and_is_not_changed", || Box::pin(shared())),
        ("a_layer_is_prepared_once", || Box::pin(prepared_once())),
        ("archives_that_lie_are_refused", || Box::pin(lies())),
        ("a_new_layer_goes_under_a_kept_disk", || Box::pin(upgraded())),
    ]
}

/// Captures a machine's tree as a layer.
async fn capture(world: &World, machine: MachineKey) -> LayerRef {
    let request = http::Request::get("/v1/tree").body(Body::empty()).expect("a request");
    let (status, body) = world.call(machine, 1, request).await;
    assert_eq!(status, 200);
    let mut decoder = frame::Decoder::default();
    let archive = decoder.push(&body).expect("frames").concat();
    let summary: Summary = serde_json::from_slice(&decoder.finish().expect("a trailer")).expect("JSON");
    store(world, archive, summary.digest, summary.files).await
}

async fn store(world: &World, archive: Vec<u8>, digest: String, files: u64) -> LayerRef {
    let blob = format!("layers/{}", blake3::hash(&archive).to_hex()).parse().expect("a key");
    let size = archive.len() as u64;
    world.blobs.put(&blob, Body::Full(archive.into()), u64::MAX).await.expect("stored");
    LayerRef { digest, blob, size, files }
}

async fn on(world: &World, layer: &LayerRef) -> MachineKey {
    let machine = key();
    let mut above = spec(machine, 1);
    above.layer = Some(layer.clone());
    assert_eq!(world.runtime.start(above).await.expect("starts").disk, DiskState::Fresh);
    machine
}

async fn shared() {
    let world = World::new().await;
    let builder = world.machine().await;
    let make = "cd /workspace; mkdir -p src/deep; echo one > src/deep/f; ln -s src/deep/f link; mkfifo pipe; \
                chmod 640 src/deep/f; touch -d 2001-02-03T04:05:06.789Z src/deep/f; printf 'x\\377' > \"$(printf 'odd\\377')\"; \
                chmod 1777 src; echo h > ~/.profile; chmod 700 /workspace; echo gone > gone";
    world.shell(builder, make).await;
    let layer = capture(&world, builder).await;
    let (one, two) = (on(&world, &layer).await, on(&world, &layer).await);
    let look = "cd /workspace; stat -c '%A %U:%G %n' . src src/deep/f link pipe; stat -c %.3Y src/deep/f; cat link ~/.profile; ls | wc -l";
    let seen = world.shell(one, look).await;
    assert_eq!(
        seen,
        "drwx------ flare:flare .\ndrwxrwxrwt flare:flare src\n-rw-r----- flare:flare src/deep/f\n\
         lrwxrwxrwx flare:flare link\nprw-r--r-- flare:flare pipe\n981173106.789\none\nh\n5"
    );
    // Everything of it can be changed, and only here.
    world.shell(one, "cd /workspace; echo two >> src/deep/f; rm gone link; mv src moved; chmod 755 .").await;
    assert_eq!(world.shell(one, "cat /workspace/moved/deep/f").await, "one\ntwo");
    assert_eq!(world.shell(two, look).await, seen);
    assert_eq!(world.shell(two, "cat /workspace/gone").await, "gone");
    // What a session changed is all that its disk holds.
    let upper = world.machine_folder(two).join("disk/1/workspace/upper");
    assert_eq!(std::fs::read_dir(upper).expect("upper").count(), 0);
    let again = capture(&world, two).await;
    assert_eq!(again.digest, layer.digest, "the same tree has the same digest");
    // The layer itself is out of reach.
    assert_eq!(
        world.shell(two, "ls /run/flare; find / -xdev -name lower 2>/dev/null | wc -l").await,
        "egress\nhidden\n0"
    );
}

async fn prepared_once() {
    let world = World::new().await;
    let builder = world.machine().await;
    world
        .shell(builder, "seq 1000 > /workspace/f; mkdir /workspace/closed; chmod 500 /workspace/closed")
        .await;
    let layer = capture(&world, builder).await;
    let calls = (0..8).map(|_| world.runtime.prepare(&layer));
    for outcome in futures_util::future::join_all(calls).await {
        outcome.expect("prepared");
    }
    let layers = world.config.data_dir.join("layers");
    let count = std::fs::read_dir(&layers)
        .expect("layers")
        .flatten()
        .filter(|entry| entry.file_name() != ".new" && entry.file_name() != ".trash")
        .count();
    assert_eq!(count, 1);
    // From here on the blob store is not asked.
    world.blobs.delete(&layer.blob).await.expect("deleted");
    world.runtime.prepare(&layer).await.expect("still there");
    on(&world, &layer).await;
}

async fn upgraded() {
    let world = World::new().await;
    let builder = world.machine().await;
    world.shell(builder, "echo 1 > /workspace/version; echo 1 > /workspace/kept").await;
    let first = capture(&world, builder).await;
    world.shell(builder, "echo 2 > /workspace/version; echo 2 > /workspace/kept").await;
    let second = capture(&world, builder).await;
    let machine = on(&world, &first).await;
    world.shell(machine, "echo mine > /workspace/kept").await;
    world.runtime.seal(machine, 1).await.expect("sealed");
    let mut next = spec(machine, 2);
    next.layer = Some(second);
    assert_eq!(world.runtime.start(next).await.expect("starts").disk, DiskState::Kept);
    assert_eq!(world.shell_in(machine, 2, "cat /workspace/version /workspace/kept").await, "2\nmine");
}

/// One member of a handmade archive, and what the manifest tells of it.
struct Member {
    name: &'static str,
    kind: Kind,
    mode: u32,
    content: &'static [u8],
    link: &'static str,
}

fn folder(name: &'static str) -> Member {
    Member { name, kind: Kind::Folder, mode: 0o755, content: b"", link: "" }
}

fn file(name: &'static str) -> Member {
    Member { name, kind: Kind::File, mode: 0o644, content: b"content", link: "" }
}

fn link(name: &'static str, link: &'static str) -> Member {
    Member { name, kind: Kind::Link, mode: 0o777, content: b"", link }
}

/// An archive of members, with a manifest that agrees unless `edit` changes it.
fn archive(members: &[Member], edit: impl Fn(&mut Vec<Entry>)) -> (Vec<u8>, String) {
    let mut builder = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).expect("an encoder"));
    let mut entries = Vec::new();
    for member in members {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(match member.kind {
            Kind::Folder => tar::EntryType::Directory,
            Kind::File => tar::EntryType::Regular,
            Kind::Link => tar::EntryType::Symlink,
            Kind::Pipe => tar::EntryType::Fifo,
        });
        // By hand: the library refuses names that lead outside.
        let old = header.as_old_mut();
        old.name[..member.name.len()].copy_from_slice(member.name.as_bytes());
        old.linkname[..member.link.len()].copy_from_slice(member.link.as_bytes());
        header.set_mode(member.mode);
        header.set_size(member.content.len() as u64);
        header.set_cksum();
        builder.append(&header, member.content).expect("appended");
        entries.push(Entry {
            path: member.name.to_owned(),
            kind: member.kind,
            mode: member.mode,
            mtime_ns: 0,
            size: member.content.len() as u64,
            blake3: (member.kind == Kind::File).then(|| blake3::hash(member.content).to_hex().to_string()),
            link: (member.kind == Kind::Link).then(|| member.link.to_owned()),
        });
    }
    edit(&mut entries);
    let mut digest = Digest::default();
    let header =
        Header { format: FORMAT, roots: vec!["/workspace".to_owned()], entries: entries.len() as u64 };
    let mut manifest = serde_json::to_vec(&header).expect("JSON");
    for entry in &entries {
        digest.add(entry);
        manifest.push(b'\n');
        manifest.extend(serde_json::to_vec(entry).expect("JSON"));
    }
    let mut last = tar::Header::new_ustar();
    last.set_size(manifest.len() as u64);
    last.set_mode(0o644);
    builder.append_data(&mut last, MANIFEST_MEMBER, manifest.as_slice()).expect("appended");
    let mut encoder = builder.into_inner().expect("whole");
    encoder.flush().expect("flushed");
    (encoder.finish().expect("whole"), digest.summary().digest)
}

async fn lies() {
    let world = World::new().await;
    let outside = world.folder.path().join("outside");
    std::fs::create_dir(&outside).expect("a folder");
    let target: &'static str = Box::leak(outside.display().to_string().into_boxed_str());
    let roots = || vec![folder("home"), folder("home/flare"), folder("workspace")];
    let with = |more: Vec<Member>| [roots(), more].into_iter().flatten().collect::<Vec<_>>();
    let honest = |_: &mut Vec<Entry>| {};
    let (good, digest) = archive(&with(vec![file("workspace/f")]), honest);
    let whole = store(&world, good.clone(), digest.clone(), 4).await;
    world.runtime.prepare(&whole).await.expect("an honest archive");
    let mut cases = vec![
        ("parent", archive(&with(vec![file("workspace/../../escaped")]), honest)),
        ("absolute", archive(&with(vec![file("/escaped")]), honest)),
        ("another root", archive(&with(vec![file("x/escaped")]), honest)),
        ("twice", archive(&with(vec![file("workspace/f"), file("workspace/f")]), honest)),
        ("out of order", archive(&with(vec![file("workspace/g"), file("workspace/f")]), honest)),
        (
            "through a link",
            archive(&with(vec![link("workspace/l", target), file("workspace/l/escaped")]), honest),
        ),
        ("set-id", archive(&with(vec![Member { mode: 0o4755, ..file("workspace/f") }]), honest)),
        ("below a file", archive(&with(vec![file("workspace/f"), file("workspace/f/g")]), honest)),
        (
            "other content",
            archive(&with(vec![file("workspace/f")]), |entries| {
                entries[3].blake3 = Some(blake3::hash(b"other").to_hex().to_string());
            }),
        ),
        (
            "one fewer",
            archive(&with(vec![file("workspace/f")]), |entries| {
                entries.pop();
            }),
        ),
        ("other mode", archive(&with(vec![file("workspace/f")]), |entries| entries[3].mode = 0o600)),
    ];
    cases.push(("cut short", (good[..good.len() / 2].to_vec(), digest.clone())));
    cases.push(("not an archive", (b"hello".to_vec(), digest)));
    cases.push(("another tree", (good, "0".repeat(64))));
    for (what, (bytes, digest)) in cases {
        // Each under a digest of its own: the honest one is there already.
        let digest = if digest == whole.digest { "1".repeat(64) } else { digest };
        let layer = store(&world, bytes, digest, 100).await;
        let refused = world.runtime.prepare(&layer).await.expect_err(what);
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{what}: {refused:?}");
    }
    let (many, digest) = archive(&with(vec![file("workspace/f"), file("workspace/g")]), honest);
    let layer = store(&world, many, digest, 4).await;
    assert_eq!(world.runtime.prepare(&layer).await.expect_err("more than told").kind(), ErrorKind::TooLarge);
    let missing = LayerRef { blob: "layers/none".parse().expect("a key"), digest: "2".repeat(64), ..layer };
    assert_eq!(world.runtime.prepare(&missing).await.expect_err("no blob").kind(), ErrorKind::NotFound);
    assert_eq!(std::fs::read_dir(&outside).expect("outside").count(), 0);
    assert!(!world.folder.path().join("escaped").exists());
    let layers = world.config.data_dir.join("layers");
    assert_eq!(std::fs::read_dir(layers.join(".new")).expect("unfinished").count(), 0);
    assert_eq!(std::fs::read_dir(layers.join(".trash")).expect("trash").count(), 0);
    assert_eq!(std::fs::read_dir(&layers).expect("layers").count(), 3, "those two and the honest layer");
}
