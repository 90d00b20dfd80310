//! What a blob's key says about it: which record names it if any does, and when it was begun. Every key holds an id that
//! was made for it and is never used again, so a blob that is old and has no record never gets one any more.

use std::time::Duration;

use burstflare_ports::blob::BlobKey;
use burstflare_ports::id::{Id, Kind};
use burstflare_ports::record::{Build, Pack, Snapshot, Version, Workspace};
use burstflare_ports::time::Timestamp;

/// A blob that no record names goes at this age: longer than any upload, step of a build or snapshot may take. Blobs of
/// builds that are under way stay however old they are.
pub const GRACE: Duration = Duration::from_secs(6 * 3600);
/// From the end of one look at every blob until the next begins.
pub const PERIOD: Duration = Duration::from_secs(6 * 3600);

/// Which record names a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// A version, as its bundle.
    Bundle(Id<Version>),
    /// The version of a build, as the layer of this attempt.
    Layer(Id<Build>, u32),
    /// A piece of the log of a build's attempt.
    Log(Id<Build>, u32),
    /// A snapshot, or several: as archive or manifest.
    Snapshot,
    /// A pack: its bytes or its index.
    Pack(Id<Pack>),
}

/// What a key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Whose it is.
    pub workspace: Id<Workspace>,
    /// Which record names it.
    pub named_by: NamedBy,
    /// Not before this moment it was begun.
    pub begun_at: Timestamp,
}

impl Origin {
    /// Whether it is so old that whoever began it has given up.
    #[must_use]
    pub fn is_old(&self, now: Timestamp) -> bool {
        self.begun_at.after(GRACE) <= now
    }
}

/// Reads a key. `None` for one that is not made by this version of the control plane: such a blob is left alone.
#[must_use]
pub fn origin(key: &BlobKey) -> Option<Origin> {
    let mut parts = key.as_str().split('/');
    let workspace = parts.next()?.parse().ok()?;
    let kind = parts.next()?;
    let rest: Vec<&str> = parts.collect();
    let (named_by, begun_at) = match (kind, rest.as_slice()) {
        ("bundles", [name]) => {
            let (version, build) = name.strip_suffix(".tar")?.split_once('-')?;
            (NamedBy::Bundle(version.parse().ok()?), made::<Build>(build)?)
        }
        ("layers", [name]) => {
            let (build, attempt) = name.strip_suffix(".tar.zst")?.split_once('-')?;
            (NamedBy::Layer(build.parse().ok()?, attempt.parse().ok()?), made::<Build>(build)?)
        }
        ("logs", [build, attempt, piece]) => {
            (NamedBy::Log(build.parse().ok()?, attempt.parse().ok()?), made::<Build>(piece)?)
        }
        ("snapshots", [_, name]) => {
            (NamedBy::Snapshot, made::<Snapshot>(name.split_once('-').map_or(*name, |(id, _)| id))?)
        }
        ("packs", [name]) => {
            let id = name.strip_suffix(".index").unwrap_or(name);
            (NamedBy::Pack(id.parse().ok()?), made::<Pack>(id)?)
        }
        _ => return None,
    };
    Some(Origin { workspace, named_by, begun_at })
}

/// When an id was made.
fn made<K: Kind>(text: &str) -> Option<Timestamp> {
    let millis = i64::try_from(text.parse::<Id<K>>().ok()?.bits() >> 80).ok()?;
    Some(Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn id<K: Kind>(random: u8) -> Id<K> {
        Id::new(NOW, [random; 10])
    }

    fn read(rest: &str) -> Option<(NamedBy, Timestamp)> {
        let workspace: Id<Workspace> = id(1);
        let found = origin(&format!("{workspace}/{rest}").parse().expect("a key"))?;
        assert_eq!(found.workspace, workspace);
        Some((found.named_by, found.begun_at))
    }

    #[test]
    fn keys_say_who_names_them_and_since_when() {
        let (version, build, pack): (Id<Version>, Id<Build>, Id<Pack>) = (id(2), id(3), id(4));
        let (session, snapshot): (Id<burstflare_ports::record::Session>, Id<Snapshot>) = (id(5), id(6));
        for (rest, named_by) in [
            (format!("bundles/{version}-{build}.tar"), NamedBy::Bundle(version)),
            (format!("layers/{build}-3.tar.zst"), NamedBy::Layer(build, 3)),
            (format!("logs/{build}/2/{build}"), NamedBy::Log(build, 2)),
            (format!("snapshots/{session}/{snapshot}-7"), NamedBy::Snapshot),
            (format!("packs/{pack}"), NamedBy::Pack(pack)),
            (format!("packs/{pack}.index"), NamedBy::Pack(pack)),
        ] {
            assert_eq!(read(&rest), Some((named_by, NOW)), "{rest}");
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let (build, pack): (Id<Build>, Id<Pack>) = (id(3), id(4));
        for rest in [
            "notes".to_owned(),
            "packs/readme".to_owned(),
            format!("packs/{pack}/x"),
            format!("packs/{build}"),
            format!("layers/{build}.tar.zst"),
            format!("layers/{build}-x.tar.zst"),
            format!("logs/{build}/2"),
        ] {
            assert_eq!(read(&rest), None, "{rest}");
        }
        assert_eq!(origin(&format!("else/packs/{pack}").parse().expect("a key")), None);
    }

    #[test]
    fn what_may_still_be_written_is_not_old() {
        let pack: Id<Pack> = id(4);
        let workspace: Id<Workspace> = id(1);
        let found = origin(&format!("{workspace}/packs/{pack}").parse().expect("a key")).expect("an origin");
        assert!(!found.is_old(NOW.after(GRACE - Duration::from_millis(1))));
        assert!(found.is_old(NOW.after(GRACE)));
    }
}
