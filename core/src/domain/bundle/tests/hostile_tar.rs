use burstflare_ports::wire::bundle::BundleRefusal;

use super::*;

#[track_caller]
fn refusal(tar: Tar) -> BundleRefusal {
    match verdict(&tar.end()) {
        Err(BundleError::Entry(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn paths_out_of_the_folder() {
    let gnu = |name: &str| Tar::new().member("././@LongLink", b'L', name.as_bytes()).file("x", b"");
    for path in ["/etc/passwd", "..", "../x", "a/../../x", "a/..", "./../x", "//x"] {
        let outside = BundleRefusal::Outside(path.to_owned());
        assert_eq!(refusal(Tar::new().file(path, b"")), outside, "header {path}");
        assert_eq!(refusal(Tar::new().pax(&[("path", path)]).file("x", b"")), outside, "pax {path}");
        assert_eq!(refusal(gnu(path)), outside, "gnu {path}");
    }
    let prefixed = Block::new("x", b'0', 0).with(345, b"/etc");
    assert_eq!(refusal(Tar::new().block(prefixed)), BundleRefusal::Outside("/etc/x".to_owned()));
    assert_eq!(refusal(Tar::new().file("", b"")), BundleRefusal::Malformed(String::new()));
}

#[test]
fn links_out_of_the_folder() {
    for (name, target) in [
        ("l", "/etc"),
        ("l", ".."),
        ("a/l", "../.."),
        ("l", "a/../.."),
        ("l", "d/s/../x"),
        ("flare.lock", "/"),
    ] {
        let outside = BundleRefusal::LinkOutside(name.to_owned());
        assert_eq!(refusal(Tar::new().link(name, target)), outside, "{name} -> {target}");
        let pax = Tar::new().pax(&[("linkpath", target)]).link(name, "harmless");
        assert_eq!(refusal(pax), outside, "pax {name} -> {target}");
    }
    // A chain whose links are fine one by one.
    let chain = Tar::new().folder("d").link("d/up", "..").link("l", "d/up/../../etc");
    assert_eq!(refusal(chain), BundleRefusal::LinkOutside("l".to_owned()));
}

#[test]
fn nothing_lies_behind_a_link() {
    let through = |path: &str| BundleRefusal::ThroughLink(path.to_owned());
    assert_eq!(refusal(Tar::new().link("l", "src").file("l/x", b"")), through("l/x"));
    assert_eq!(refusal(Tar::new().link("l", ".").folder("l/d/")), through("l/d/"));
    assert_eq!(refusal(Tar::new().link("a", "b").link("b", "c").file("./a//x/y", b"")), through("./a//x/y"));
    assert_eq!(refusal(Tar::new().file("flare.toml/x", b"")), through("flare.toml/x"));
}

#[test]
fn what_is_neither_file_nor_folder_nor_link() {
    for (kind, what) in [
        (b'3', "a character device"),
        (b'4', "a block device"),
        (b'6', "a named pipe"),
        (b'S', "a sparse file"),
        (b'7', "a contiguous file, which is not accepted"),
        (b'M', "a GNU entry of incremental or multi-volume archives"),
        (b'V', "a GNU entry of incremental or multi-volume archives"),
        (b'Z', "of an unknown type"),
        (b'X', "of an unknown type"),
        (0xff, "of an unknown type"),
    ] {
        assert_eq!(
            tar_error(&Tar::new().member("x", kind, b"").end()),
            TarError::Type { path: "x".to_owned(), what }
        );
    }
    let hard = Tar::new().block(Block::new("h", b'1', 0).link("flare.toml"));
    assert_eq!(refusal(hard), BundleRefusal::Kind("h".to_owned()));
    let sparse = Tar::new().pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")]).file("s", b"abc");
    assert_eq!(tar_error(&sparse.end()), TarError::Type { path: "s".to_owned(), what: "a sparse file" });
}

#[test]
fn set_id_bits_and_odd_modes() {
    for mode in [b"0004755\0", b"0002755\0", b"0106755\0"] {
        let tar = Tar::new().block(Block::new("x", b'0', 0).with(100, mode));
        assert_eq!(refusal(tar), BundleRefusal::SetId("x".to_owned()));
    }
    let folder = Tar::new().block(Block::new("d", b'5', 0).with(100, b"0002755\0"));
    assert_eq!(refusal(folder), BundleRefusal::SetId("d".to_owned()));
    for mode in [b"0200000\0", b"abcdefg\0", b"\x80\x01\0\0\0\0\0\0", b"\xff\xff\xff\xff\xff\xff\xff\xff"] {
        let tar = Tar::new().block(Block::new("x", b'0', 0).with(100, mode)).end();
        assert_eq!(tar_error(&tar), TarError::Number("mode"));
    }
    // Type bits as stat gives them are no bits of the mode.
    assert!(verdict(&Tar::new().block(Block::new("x", b'0', 0).with(100, b"0100644\0")).end()).is_ok());
}

#[test]
fn a_path_comes_once() {
    let twice = |path: &str| BundleRefusal::Duplicate(path.to_owned());
    assert_eq!(refusal(Tar::new().file("a", b"").file("a", b"")), twice("a"));
    assert_eq!(refusal(Tar::new().file("a", b"").file("./a", b"")), twice("./a"));
    assert_eq!(refusal(Tar::new().file("a", b"").folder("a/")), twice("a/"));
    assert_eq!(refusal(Tar::new().folder("a/").file("a", b"")), twice("a"));
    assert_eq!(refusal(Tar::new().folder("a").folder("./a/")), twice("./a/"));
    assert_eq!(refusal(Tar::new().folder("a").link("a", "b")), twice("a"));
    assert_eq!(refusal(Tar::new().file("a/b", b"").file("a", b"")), twice("a"), "where a folder has to be");
    assert_eq!(refusal(Tar::new().file("a", b"").pax(&[("path", "a")]).file("b", b"")), twice("a"));
    assert_eq!(tar_error(&Tar::new().file("a/", b"").end()), TarError::FileAsFolder("a/".to_owned()));
}

#[test]
fn names_and_depths_have_bounds() {
    let long = |path: String| BundleRefusal::TooLong(path.chars().take(200).collect());
    let pax = |path: &str| Tar::new().pax(&[("path", path)]).file("x", b"");
    assert_eq!(refusal(pax(&"n".repeat(256))), long("n".repeat(256)));
    let deep = "d/".repeat(64) + "x";
    assert_eq!(refusal(pax(&deep)), long(deep));
    let broad = format!("{}/", "n".repeat(250)).repeat(17) + "x";
    assert_eq!(refusal(pax(&broad)), long(broad.clone()));
    let target = Tar::new().pax(&[("linkpath", &"t/".repeat(3000))]).link("l", "x");
    assert_eq!(refusal(target), long("l".to_owned()));
    for kind in [b'x', b'g', b'L', b'K'] {
        let huge = Tar::new().member("x", kind, &vec![b'a'; (64 << 10) + 1]).end();
        assert_eq!(tar_error(&huge), TarError::LongExtension);
    }
}

#[test]
fn counts_and_memory_have_bounds() {
    let many = |count: usize| (0..count).fold(Tar::new(), |tar, at| tar.file(&format!("f{at}"), b"")).end();
    let entries = EntryLimits { entries: 50, ..EntryLimits::default() };
    let limits = BundleLimits { entries, ..BundleLimits::default() };
    assert!(inspect_in(limits, &zst(&many(49)), &[]).is_ok());
    let refused = inspect_in(limits, &zst(&many(50)), &[]);
    assert_eq!(refused, Err(BundleRefusal::Entries(50).into()));

    // Folders that are only implied take memory too: 64 prefixes of 16 KiB together in each path here.
    let limits = BundleLimits { names: 100_000, ..BundleLimits::default() };
    let fan = |at: usize| format!("{at:08}/{}x", "ddddddd/".repeat(60));
    let tar = (0..8).fold(Tar::new(), |tar, at| tar.pax(&[("path", &fan(at))]).file("x", b"")).end();
    assert_eq!(inspect_in(limits, &zst(&tar), &[]), Err(BundleError::Names(100_000)));
    // Siblings do not count their folder again.
    let tar = (0..90).fold(Tar::new(), |tar, at| {
        tar.pax(&[("path", &format!("{}{at:03}", "ddddddd/".repeat(60)))]).file("x", b"")
    });
    assert!(inspect_in(limits, &zst(&tar.end()), &[]).is_ok());
}

#[test]
fn sizes_that_readers_could_disagree_on() {
    // A reader that believes the header finds the hidden member inside the file.
    let hidden = Tar::default().file("hidden", b"x").0;
    let believed = |size: u64| {
        let size = size.to_string();
        Tar::new().pax(&[("size", &size)]).block(Block::new("x", b'0', 0)).content(&hidden).end()
    };
    assert_eq!(tar_error(&believed(1024)), TarError::SizeMismatch { pax: 1024, header: 0 });
    let shorter = Tar::new().pax(&[("size", "0")]).file("x", &hidden).end();
    assert_eq!(tar_error(&shorter), TarError::SizeMismatch { pax: 0, header: 1024 });
    for size in ["-1", "1e3", "0x10", " 1", "18446744073709551616"] {
        let tar = Tar::new().pax(&[("size", size)]).file("x", b"").end();
        assert_eq!(tar_error(&tar), TarError::Number("size"), "{size}");
    }
    for field in [
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x80\0\0\x01\0\0\0\0\0\0\0\0",
        b"00000000008\0",
    ] {
        let tar = Tar::new().block(Block::new("x", b'0', 0).with(124, field)).end();
        assert_eq!(tar_error(&tar), TarError::Number("size"));
    }
    let endless = Block::new("x", b'0', 0).with(124, b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    assert_eq!(refusal(Tar::new().block(endless)), BundleRefusal::Expanded(4 << 30));
    for kind in [b'2', b'5'] {
        let tar = Tar::new().block(Block::new("x", kind, 512).link("t")).content(&hidden[..512]);
        assert_eq!(refusal(tar), BundleRefusal::Content("x".to_owned()));
    }
}

#[test]
fn extensions_that_readers_could_disagree_on() {
    let ambiguous = |tar: Tar| match tar_error(&tar.end()) {
        TarError::Ambiguous(what) => what,
        other => panic!("{other:?}"),
    };
    let long = |tar: Tar, kind, text: &str| tar.member("././@LongLink", kind, text.as_bytes());
    assert_eq!(ambiguous(Tar::new().pax(&[("path", "a"), ("path", "b")]).file("x", b"")), "the path");
    assert_eq!(ambiguous(Tar::new().pax(&[("size", "0"), ("size", "0")]).file("x", b"")), "the size");
    assert_eq!(
        ambiguous(Tar::new().pax(&[("linkpath", "a"), ("linkpath", "b")]).link("x", "")),
        "the link's target"
    );
    assert_eq!(
        ambiguous(Tar::new().pax(&[("path", "a")]).pax(&[("size", "0")]).file("x", b"")),
        "the pax header"
    );
    assert_eq!(ambiguous(long(long(Tar::new(), b'L', "a"), b'L', "b").file("x", b"")), "the path");
    assert_eq!(ambiguous(long(Tar::new(), b'L', "a").pax(&[("path", "b")]).file("x", b"")), "the path");
    assert_eq!(
        ambiguous(long(Tar::new().pax(&[("linkpath", "b")]), b'K', "a").link("x", "")),
        "the link's target"
    );
    for key in ["path", "linkpath", "size", "GNU.sparse"] {
        let record = pax_record(if key == "GNU.sparse" { "GNU.sparse.name" } else { key }, "1");
        let tar = Tar::new().member("g", b'g', record.as_bytes()).file("x", b"").end();
        assert_eq!(tar_error(&tar), TarError::Global(key));
    }
    for text in ["", "\0", "a\0b\0"] {
        assert_eq!(
            tar_error(&long(Tar::new(), b'L', text).file("x", b"").end()),
            TarError::Extension,
            "{text:?}"
        );
    }
    assert_eq!(tar_error(&Tar::new().member("x", b'x', b"6 path").end()), TarError::Extension);
    assert_eq!(tar_error(&Tar::new().pax(&[("path", "a\0b")]).file("x", b"").end()), TarError::Extension);
    for tar in [Tar::new().pax(&[("path", "a")]), long(Tar::new(), b'L', "a"), long(Tar::new(), b'K', "a")] {
        assert_eq!(tar_error(&tar.end()), TarError::Dangling);
    }
}

#[test]
fn an_archive_ends_with_zeros_and_nothing_else() {
    let tar = Tar::new().file("a", b"abc");
    let whole = tar.clone().end();
    assert!(
        verdict(&[&whole[..], &[0; 9000][..]].concat()).is_ok(),
        "records of 10 KiB are filled with zeros"
    );
    for length in 0..whole.len() {
        let at = length as u64;
        assert_eq!(
            inspect(&gz(&whole[..length])),
            Err(BundleError::Tar { at, problem: TarError::Truncated })
        );
    }
    let behind = [&whole[..], &[0; 700][..], b"x"].concat();
    let at = behind.len() as u64 - 1;
    assert_eq!(verdict(&behind), Err(BundleError::Tar { at, problem: TarError::Trailing }));
    // Readers that go on behind a single block of zeros would find it.
    let single = [&tar.0[..], &[0; 512][..], &Tar::default().file("b", b"").end()[..]].concat();
    assert_eq!(tar_error(&single), TarError::Trailing);
    let second = [&whole[..], &Tar::default().file("b", b"").end()[..]].concat();
    assert_eq!(tar_error(&second), TarError::Trailing);
}
