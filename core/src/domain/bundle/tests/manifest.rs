use super::*;

#[test]
fn a_bundle_has_exactly_one_manifest_at_its_root() {
    assert_eq!(verdict(&Tar::default().end()), Err(BundleError::ManifestMissing));
    assert_eq!(verdict(&Tar::default().file("sub/flare.toml", b"").end()), Err(BundleError::ManifestMissing));
    assert_eq!(verdict(&Tar::default().file("Flare.toml", b"").end()), Err(BundleError::ManifestMissing));
    for second in ["flare.toml", "./flare.toml", ".//./flare.toml"] {
        assert_eq!(verdict(&Tar::new().file(second, b"").end()), Err(BundleError::ManifestTwice), "{second}");
    }
    assert_eq!(verdict(&Tar::new().link("flare.toml", "other").end()), Err(BundleError::ManifestTwice));
}

#[test]
fn the_manifest_is_a_regular_file() {
    for (tar, name) in [
        (Tar::default().file("real", b"").link("flare.toml", "real"), "link"),
        (Tar::default().link("./flare.toml", "nowhere"), "dangling link"),
        (Tar::default().folder("flare.toml"), "folder"),
        (Tar::default().folder("flare.toml/"), "folder with a slash"),
    ] {
        assert_eq!(verdict(&tar.end()), Err(BundleError::ManifestNotAFile), "{name}");
    }
}

#[test]
fn the_manifest_is_short_text() {
    let limit = 64 << 10;
    let longest = vec![b'#'; limit];
    let found = verdict(&Tar::default().file("flare.toml", &longest).end()).expect("as long as may be");
    assert_eq!(found.manifest.len(), limit);
    let longer = vec![b'#'; limit + 1];
    assert_eq!(
        verdict(&Tar::default().file("flare.toml", &longer).end()),
        Err(BundleError::ManifestTooLarge(limit as u64))
    );
    assert_eq!(
        verdict(&Tar::default().file("flare.toml", b"a = 1\n\n# \xff").end()),
        Err(BundleError::ManifestNotText(3))
    );
    assert_eq!(
        verdict(&Tar::default().file("flare.toml", b"").end()).map(|found| found.manifest),
        Ok(String::new())
    );
}

#[test]
fn refusals_say_what_to_do() {
    let of = |error: BundleError| {
        let refusal = crate::error::Error::from(error);
        (refusal.kind, refusal.code, refusal.field)
    };
    use crate::error::Kind::{Invalid, TooLarge};
    let field = Some("bundle");
    assert_eq!(of(BundleError::ManifestMissing), (Invalid, "manifest_missing", field));
    assert_eq!(of(BundleError::TooLarge(1)), (TooLarge, "bundle_too_large", field));
    let ratio = burstflare_ports::wire::bundle::BundleRefusal::Ratio(200);
    assert_eq!(of(ratio.into()), (TooLarge, "bundle_too_large", field));
    let twice = burstflare_ports::wire::bundle::BundleRefusal::Duplicate("a".to_owned());
    assert_eq!(of(twice.into()), (Invalid, "bundle_entry_refused", field));
    assert_eq!(of(PackError::Truncated.into()), (Invalid, "bundle_damaged", field));
}
