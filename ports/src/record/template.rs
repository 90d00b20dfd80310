use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Build, LayerRef, Release, User, Workspace};
use crate::blob::BlobKey;
use crate::id::{Id, Kind};
use crate::machine::Limits;
use crate::text::{Label, Slug};
use crate::time::Timestamp;

/// What sessions are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Key.
    pub id: Id<Template>,
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// Unique in the workspace.
    pub name: Slug,
    /// Who made it.
    pub created_by: Id<User>,
    /// What new sessions get.
    pub current_release: Option<Id<Release>>,
    /// When it was put away: no new versions or sessions.
    pub archived_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Commits so far.
    pub revision: u64,
}

/// Where a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// Its bundle is not uploaded yet.
    Draft,
    /// A build runs or waits.
    Building,
    /// Built; can be promoted.
    Ready,
    /// Its last build failed; it can be retried.
    Failed,
}

/// An uploaded folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRef {
    /// Where it lies.
    pub blob: BlobKey,
    /// BLAKE3 of the archive, hexadecimal.
    pub blake3: String,
    /// Bytes of the archive.
    pub size: u64,
}

/// Who may open a preview of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// The session's owner.
    Private,
    /// Members of the workspace.
    Workspace,
    /// Everybody.
    Public,
}

/// A port that a template announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// 1 to 65535, not the agent's.
    pub port: u16,
    /// What it is called.
    pub name: Option<String>,
    /// Who may open it.
    pub visibility: Visibility,
}

/// A parsed `flare.toml`: everything that a build and a session take from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSpec {
    /// Name in the deployment's catalogue of bases.
    pub base: String,
    /// Build steps, each for `sh -eu -c`.
    pub setup: Vec<String>,
    /// Runs when a session starts.
    pub on_start: Option<String>,
    /// Idle time before sleep in seconds; `None` is never.
    pub sleep_after_s: Option<u64>,
    /// Folders that persist, absolute, below the two roots.
    pub persist: Vec<String>,
    /// Variables of every process.
    pub env: BTreeMap<String, String>,
    /// Announced ports.
    pub ports: Vec<PortSpec>,
    /// Upper bounds of a session's machine.
    pub limits: Limits,
    /// Accepted keys that have no effect yet, each with a sentence.
    #[serde(default)]
    pub not_supported_yet: Vec<String>,
}

/// One uploaded and built state of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Key.
    pub id: Id<Version>,
    /// The workspace.
    pub workspace: Id<Workspace>,
    /// The template.
    pub template: Id<Template>,
    /// Unique in the template.
    pub label: Label,
    /// Where it is.
    pub state: VersionState,
    /// The uploaded folder; set once.
    pub bundle: Option<BundleRef>,
    /// The parsed manifest; set with the bundle.
    pub spec: Option<VersionSpec>,
    /// The newest build.
    pub build: Option<Id<Build>>,
    /// What the build captured.
    pub layer: Option<LayerRef>,
    /// Who made it.
    pub created_by: Id<User>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Commits so far.
    pub revision: u64,
}

impl Kind for Template {
    const PREFIX: &'static str = "tpl";
    const NOUN: &'static str = "template";
}

impl Kind for Version {
    const PREFIX: &'static str = "ver";
    const NOUN: &'static str = "version";
}
