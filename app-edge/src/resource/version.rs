use burstflare_ports::id::Id;
use burstflare_ports::record::{self, VersionState};
use burstflare_ports::text::Label;
use burstflare_ports::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::VersionStateWord;
use super::{Build, Warning};

/// Makes a draft of a version; its bundle follows.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVersion {
    /// Unique in the template: 1 to 64 of `A-Z a-z 0-9 . _ + -`.
    #[schema(value_type = String, example = "1.0.0", max_length = 64)]
    pub label: Label,
}

/// An uploaded folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bundle {
    /// BLAKE3 of the archive, hexadecimal.
    pub blake3: String,
    /// Bytes of the archive.
    pub size: u64,
}

/// What a build captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Layer {
    /// Digest of the captured tree, hexadecimal.
    pub digest: String,
    /// Bytes of its archive.
    pub size: u64,
    /// Entries in the tree.
    pub files: u64,
}

/// One uploaded and built state of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Its id.
    #[schema(value_type = String, example = "ver_01JD0000000000000000000000")]
    pub id: Id<record::Version>,
    /// The template.
    #[schema(value_type = String)]
    pub template: Id<record::Template>,
    /// Unique in the template.
    #[schema(value_type = String, example = "1.0.0")]
    pub label: Label,
    /// Where it is.
    #[schema(value_type = VersionStateWord)]
    pub state: VersionState,
    /// The uploaded folder.
    pub bundle: Option<Bundle>,
    /// The newest build.
    #[schema(value_type = Option<String>)]
    pub build_id: Option<Id<record::Build>>,
    /// What the build captured.
    pub layer: Option<Layer>,
    /// What its manifest asks for without effect so far.
    pub warnings: Vec<Warning>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A version whose bundle was taken in: the version, and the build that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Uploaded {
    /// The version.
    #[serde(flatten)]
    pub version: Version,
    /// Its build.
    pub build: Build,
}

impl From<record::Version> for Version {
    fn from(version: record::Version) -> Self {
        let warnings = version.spec.map(|spec| spec.not_supported_yet).unwrap_or_default();
        Self {
            id: version.id,
            template: version.template,
            label: version.label,
            state: version.state,
            bundle: version.bundle.map(|bundle| Bundle { blake3: bundle.blake3, size: bundle.size }),
            build_id: version.build,
            layer: version.layer.map(|layer| Layer {
                digest: layer.digest,
                size: layer.size,
                files: layer.files,
            }),
            warnings: warnings.into_iter().map(Warning::not_supported_yet).collect(),
            created_at: version.created_at,
        }
    }
}
