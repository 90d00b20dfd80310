//! Where a server keeps its blobs: the data folder, or an S3 service.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use burstflare_adapters_local::blobs::FsBlobs;
#[cfg(feature = "s3")]
use burstflare_adapters_local::s3::{S3Blobs, S3Options, S3Place};
use burstflare_ports::blob::Blobs;
#[cfg(feature = "s3")]
use burstflare_ports::error::{ErrorKind, PortError, PortResult};

use super::failure;
use crate::exit::{Exit, Failure};
#[cfg(feature = "s3")]
use crate::place;

/// In the data folder: the place of its blobs, where that is not the folder itself. A server that was started with another place
/// by mistake would find nothing of what its records name.
const NOTE: &str = "blobs.place";
const FOLDER: &str = "folder";

/// Where blobs lie.
#[derive(Debug, Clone)]
pub enum BlobsPlace {
    /// Below the data folder.
    Folder,
    /// On an S3 service.
    #[cfg(feature = "s3")]
    S3(Box<S3Place>),
}

impl FromStr for BlobsPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            FOLDER => Ok(Self::Folder),
            #[cfg(feature = "s3")]
            text => text
                .parse()
                .map(|place| Self::S3(Box::new(place)))
                .map_err(|error: burstflare_adapters_local::s3::InvalidS3Place| error.to_string()),
            #[cfg(not(feature = "s3"))]
            _ => Err("this `flare` was built without the feature s3: `folder` is all it knows".to_owned()),
        }
    }
}

impl fmt::Display for BlobsPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder => f.write_str(FOLDER),
            #[cfg(feature = "s3")]
            Self::S3(place) => place.fmt(f),
        }
    }
}

/// A server's blobs, and what has to be begun and ended with them.
pub(super) struct BlobsHome {
    pub(super) blobs: Arc<dyn Blobs>,
    /// What people should know about them.
    pub(super) warning: Option<String>,
    #[cfg(feature = "s3")]
    s3: Option<S3Blobs>,
}

impl BlobsHome {
    /// Opens the blobs of a data folder that this process has locked. An S3 service that is out of order for the moment keeps no
    /// server from starting: sessions go on without it.
    pub(super) async fn open(place: &BlobsPlace, data_dir: &Path) -> Result<Self, Failure> {
        let noted = noted(data_dir)?;
        let wanted = place.to_string();
        if let Some(noted) = noted.as_ref().filter(|noted| **noted != wanted) {
            let what = format!("the blobs of {} lie at `{noted}`, not at `{wanted}`", data_dir.display());
            let note = data_dir.join(NOTE);
            return Err(Failure::new(Exit::Conflict, what).hint(format!(
                "Start it with --blobs '{noted}', or with another --data-dir. After moving the objects, write the new place into {}.",
                note.display()
            )));
        }
        match place {
            BlobsPlace::Folder => {
                let folder = FsBlobs::open(data_dir.join("blobs")).map_err(|error| failure(&error))?;
                Ok(Self {
                    blobs: Arc::new(folder),
                    warning: None,
                    #[cfg(feature = "s3")]
                    s3: None,
                })
            }
            #[cfg(feature = "s3")]
            BlobsPlace::S3(place) => {
                let opened = S3Blobs::unchecked(S3Options::new((**place).clone())).await;
                let s3 = opened.map_err(|error| s3_failure(&error))?;
                let late = match s3.check().await {
                    Ok(()) => None,
                    Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                        Some(format!("{}; /readyz says when it is back", error.context()))
                    }
                    Err(error) => return Err(s3_failure(&error)),
                };
                if noted.is_none() {
                    let note = data_dir.join(NOTE);
                    place::replace(&note, wanted.as_bytes(), 0o600).map_err(|error| {
                        Failure::local(format_args!("cannot write {}", note.display()), error)
                    })?;
                }
                let open = place.is_open_to_eavesdroppers().then(|| {
                    format!("blobs are read and written without encryption: give {wanted} an https endpoint.")
                });
                Ok(Self { blobs: Arc::new(s3.clone()), warning: late.or(open), s3: Some(s3) })
            }
        }
    }

    /// Takes up the work that belongs to them.
    pub(super) fn begin(&self) {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            s3.run();
        }
    }

    /// Lets that work end.
    pub(super) async fn end(&self, deadline: Duration) {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            s3.shutdown(deadline).await;
        }
        #[cfg(not(feature = "s3"))]
        let _ = deadline;
    }
}

/// What a server does there, each thing tried once: its name, and what to know about it.
pub async fn tried(place: &BlobsPlace) -> Vec<(String, Result<String, Failure>)> {
    match place {
        BlobsPlace::Folder => Vec::new(),
        #[cfg(feature = "s3")]
        BlobsPlace::S3(place) => match S3Blobs::unchecked(S3Options::new((**place).clone())).await {
            Err(error) => vec![("blobs".to_owned(), Err(s3_failure(&error)))],
            Ok(blobs) => {
                let steps = blobs.rehearse().await;
                let told = |outcome: PortResult<()>| match outcome {
                    Ok(()) => Ok(place.to_string()),
                    Err(error) => Err(Failure { hint: None, ..s3_failure(&error) }),
                };
                steps.into_iter().map(|step| (format!("blobs: {}", step.name), told(step.outcome))).collect()
            }
        },
    }
}

/// The place that an earlier server of this folder used, if one stored anything.
fn noted(data_dir: &Path) -> Result<Option<String>, Failure> {
    let path = data_dir.join(NOTE);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let full =
                fs::read_dir(data_dir.join("blobs/data")).is_ok_and(|mut entries| entries.next().is_some());
            Ok(full.then(|| FOLDER.to_owned()))
        }
        Err(error) => Err(Failure::local(format_args!("cannot read {}", path.display()), error)),
    }
}

#[cfg(feature = "s3")]
fn s3_failure(error: &PortError) -> Failure {
    let exit = match error.kind() {
        ErrorKind::Invalid => Exit::Usage,
        ErrorKind::Denied => Exit::Auth,
        ErrorKind::Full => Exit::Limit,
        ErrorKind::Unavailable => Exit::Unavailable,
        ErrorKind::Timeout => Exit::Timeout,
        _ => Exit::Other,
    };
    Failure::new(exit, error.context())
        .hint("`flare doctor --blobs URL` tries each thing that a server does there.")
}
