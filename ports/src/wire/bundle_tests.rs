//! Tests of the entry policy, the well-known tricks among them.

use super::*;
use proptest::prelude::*;

fn entry<'a>(path: &'a str, kind: BundleKind, link: Option<&'a str>) -> BundleEntry<'a> {
    BundleEntry { path: path.as_bytes(), kind, mode: 0o644, size: 0, link: link.map(str::as_bytes) }
}

fn file(path: &str) -> BundleEntry<'_> {
    entry(path, BundleKind::File, None)
}

fn folder(path: &str) -> BundleEntry<'_> {
    entry(path, BundleKind::Folder, None)
}

fn link<'a>(path: &'a str, target: &'a str) -> BundleEntry<'a> {
    entry(path, BundleKind::Link, Some(target))
}

fn last(entries: &[BundleEntry<'_>]) -> Result<Vec<u8>, BundleRefusal> {
    let mut policy = BundlePolicy::default();
    let (end, before) = entries.split_last().expect("at least one");
    for earlier in before {
        policy.check(*earlier).expect("the entries before are fine");
    }
    policy.check(*end)
}

#[test]
fn ordinary_bundles_pass() {
    let mut policy = BundlePolicy::default();
    for (given, cleaned) in
        [("./", ""), ("./src/", "src"), ("src//main.rs", "src/main.rs"), ("b/c/d", "b/c/d")]
    {
        let kind = if given.ends_with('/') { BundleKind::Folder } else { BundleKind::File };
        assert_eq!(policy.check(entry(given, kind, None)).expect("fine"), cleaned.as_bytes());
    }
    policy.check(folder("b/c")).expect("an implied folder may come later itself");
    for (name, target) in
        [("l", "src"), ("src/up", "../b/c/d"), ("b/c/top", "../.."), ("dangling", "nowhere/x")]
    {
        policy.check(link(name, target)).expect("inside");
    }
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    for path in ["/etc/passwd", "..", "../x", "a/../b", "a/..", "./../x", "//x"] {
        assert!(matches!(last(&[file(path)]), Err(BundleRefusal::Outside(_))), "{path}");
    }
    assert!(matches!(last(&[file("")]), Err(BundleRefusal::Malformed(_))));
    assert!(matches!(last(&[file("a\0b")]), Err(BundleRefusal::Malformed(_))));
    assert!(matches!(last(&[file(".")]), Err(BundleRefusal::Outside(_))), "the folder itself is no file");
}

#[test]
fn links_that_leave_the_folder_are_refused() {
    for (name, target) in [
        ("l", "/etc"),
        ("l", ".."),
        ("a/l", "../.."),
        ("a/b/l", "../../../x"),
        // Lexically inside, but with `d/s -> ..` it is the parent of the folder.
        ("l", "d/s/../x"),
        ("l", "./x/.."),
    ] {
        assert!(
            matches!(last(&[link(name, target)]), Err(BundleRefusal::LinkOutside(_))),
            "{name} -> {target}"
        );
    }
    assert!(matches!(last(&[link("l", "")]), Err(BundleRefusal::Malformed(_))));
}

#[test]
fn nothing_is_written_through_a_link_or_file() {
    assert!(matches!(last(&[link("l", "src"), file("l/x")]), Err(BundleRefusal::ThroughLink(_))));
    assert!(matches!(last(&[file("f"), file("f/x")]), Err(BundleRefusal::ThroughLink(_))));
    assert!(matches!(last(&[link("a/l", "."), file("a/l/b/c")]), Err(BundleRefusal::ThroughLink(_))));
}

#[test]
fn a_path_comes_once() {
    assert!(matches!(last(&[file("a"), file("a")]), Err(BundleRefusal::Duplicate(_))));
    assert!(matches!(last(&[file("a"), link("./a", "b")]), Err(BundleRefusal::Duplicate(_))));
    assert!(matches!(last(&[folder("a"), folder("a/")]), Err(BundleRefusal::Duplicate(_))));
    assert!(matches!(last(&[file("a/b"), link("a", "b")]), Err(BundleRefusal::Duplicate(_))));
}

#[test]
fn kinds_modes_and_content_are_held() {
    assert!(matches!(last(&[entry("h", BundleKind::HardLink, Some("a"))]), Err(BundleRefusal::Kind(_))));
    assert!(matches!(last(&[entry("d", BundleKind::Other, None)]), Err(BundleRefusal::Kind(_))));
    assert!(matches!(last(&[BundleEntry { mode: 0o4755, ..file("s") }]), Err(BundleRefusal::SetId(_))));
    assert!(matches!(last(&[BundleEntry { mode: 0o2755, ..folder("s") }]), Err(BundleRefusal::SetId(_))));
    assert!(matches!(last(&[BundleEntry { size: 1, ..folder("s") }]), Err(BundleRefusal::Content(_))));
}

#[test]
fn bounds_are_held() {
    let limits =
        BundleLimits { entries: 3, name: 4, path: 8, depth: 3, expanded: 10, ratio: 2, ratio_from: 4 };
    let mut policy = BundlePolicy::new(limits);
    assert!(matches!(policy.check(file("abcde")), Err(BundleRefusal::TooLong(_))));
    assert!(matches!(policy.check(file("abc/abc/a")), Err(BundleRefusal::TooLong(_))));
    assert!(matches!(policy.check(file("a/b/c/d")), Err(BundleRefusal::TooLong(_))));
    assert!(matches!(policy.check(link("l", "abc/abc/a")), Err(BundleRefusal::TooLong(_))));
    policy.check(BundleEntry { size: 10, ..file("a/b") }).expect("two entries, ten bytes");
    assert_eq!(policy.check(BundleEntry { size: 1, ..file("c") }), Err(BundleRefusal::Expanded(10)));
    assert_eq!(policy.check(BundleEntry { size: u64::MAX, ..file("c") }), Err(BundleRefusal::Expanded(10)));
    let mut policy = BundlePolicy::new(limits);
    policy.check(file("a/b")).expect("two entries");
    assert_eq!(policy.check(file("c/d")), Err(BundleRefusal::Entries(3)), "implied folders count");
    policy.check_ratio(0, 4).expect("small ones do not matter");
    policy.check_ratio(3, 6).expect("within");
    assert_eq!(policy.check_ratio(2, 6), Err(BundleRefusal::Ratio(2)));
}

/// Follows a path in the tree that the accepted entries make, as the kernel would; `None` when it leaves the root.
fn resolve(
    tree: &HashMap<Vec<u8>, Option<Vec<u8>>>,
    from: &[&[u8]],
    path: &[u8],
    hops: &mut u32,
) -> Option<Vec<Vec<u8>>> {
    let mut here: Vec<Vec<u8>> = from.iter().map(|segment| segment.to_vec()).collect();
    for segment in path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty() && *segment != b".")
    {
        if segment == b".." {
            here.pop()?;
            continue;
        }
        here.push(segment.to_vec());
        if let Some(Some(target)) = tree.get(&here.join(&b'/')) {
            here.pop();
            // As the kernel gives up on loops, over the whole walk.
            if *hops == 0 {
                return Some(here);
            }
            *hops -= 1;
            let parents: Vec<&[u8]> = here.iter().map(Vec::as_slice).collect();
            here = resolve(tree, &parents, target, hops)?;
        }
    }
    Some(here)
}

fn segments() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "..", ".", ""]), 1..5)
        .prop_map(|segments| segments.join("/"))
}

proptest! {
    /// Whatever passes, no link of it leads out of the folder, and every parent is a folder.
    #[test]
    fn what_passes_stays_inside(entries in prop::collection::vec((segments(), 0..3u8, segments()), 1..24)) {
        let mut policy = BundlePolicy::default();
        let mut tree: HashMap<Vec<u8>, Option<Vec<u8>>> = HashMap::new();
        for (name, kind, target) in &entries {
            let kind = match kind { 0 => BundleKind::Folder, 1 => BundleKind::File, _ => BundleKind::Link };
            if let Ok(clean) = policy.check(entry(name, kind, Some(target))) {
                prop_assert!(!clean.starts_with(b"/"));
                let link = (kind == BundleKind::Link).then(|| target.as_bytes().to_vec());
                tree.insert(clean, link);
            }
        }
        for (name, link) in &tree {
            let Some(target) = link else { continue };
            let mut parents: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
            parents.pop();
            for depth in 1..=parents.len() {
                prop_assert!(!matches!(tree.get(&parents[..depth].join(&b'/')), Some(Some(_))), "through a link");
            }
            prop_assert!(resolve(&tree, &parents, target, &mut 40).is_some(), "{name:?} -> {target:?}");
        }
    }
}
