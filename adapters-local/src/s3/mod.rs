//! Blobs on an S3 service: AWS, R2, or a server of one's own.
//!
//! A blob is an object: put in one call where it is small, else in parts that the service joins at the end, so that it appears
//! whole or not at all. Uploads that nobody will finish are given up at once where this process learns of it, and swept
//! after a day where it does not. Memory: a put holds at most three parts, a read what the connection has delivered.

mod client;
mod error;
mod facts;
mod list;
mod parts;
mod place;
mod put;
mod read;
mod rehearse;
mod sweep;
mod upload;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use burstflare_ports::blob::{BlobInfo, BlobKey, BlobPage, Blobs};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::secret::Secret;
use burstflare_ports::stream::{Body, ByteStream};
use tokio::sync::Semaphore;

use crate::tasks::Tasks;

pub use self::client::Deadlines;
pub use self::place::{InvalidS3Place, S3Place};
pub use self::rehearse::Step;

/// Bytes of a part, usually.
const PART: usize = 8 << 20;
/// The most keys of a page.
const LIST_LIMIT: usize = 200;
/// Parts on their way at once, of all puts together.
const FLYING: usize = 16;

/// A key of the service, where the environment is not to be asked.
#[derive(Debug, Clone)]
pub struct S3Keys {
    /// The access key's id.
    pub id: String,
    /// The secret key.
    pub secret: Secret<String>,
}

/// How blobs are kept on an S3 service.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Where.
    pub place: S3Place,
    /// By default the environment is asked as every AWS tool does: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, the shared files,
    /// a web identity, the role of the container or machine.
    pub keys: Option<S3Keys>,
    /// How long the service may take.
    pub deadlines: Deadlines,
    /// Bytes of a part; every part of an upload but the last has as many, which R2 insists on. AWS takes no less than 5 MiB.
    /// Parts grow where the limit of a put needs more than ten thousand of them.
    pub part: usize,
    /// Unfinished uploads below the prefix that are older than this are given up. No put may take longer.
    pub stale: Duration,
}

impl S3Options {
    /// The usual ones.
    #[must_use]
    pub fn new(place: S3Place) -> Self {
        Self {
            place,
            keys: None,
            deadlines: Deadlines::default(),
            part: PART,
            stale: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Blobs below a prefix of a bucket. Clones share the connections.
#[derive(Debug, Clone)]
pub struct S3Blobs {
    bucket: Arc<Bucket>,
    tasks: Arc<Tasks>,
}

/// The service, as every call needs it.
#[derive(Debug)]
struct Bucket {
    client: Client,
    options: S3Options,
    flying: Arc<Semaphore>,
}

impl Bucket {
    fn name(&self) -> &str {
        &self.options.place.bucket
    }

    fn key(&self, key: &BlobKey) -> String {
        self.options.place.key(key)
    }
}

impl S3Blobs {
    /// Connects with the credentials of the environment and asks whether the bucket can be listed.
    ///
    /// # Errors
    /// `Denied` where bucket, credentials or rights are not in order, with what to do; `Invalid` without a region; `Unavailable` or
    /// `Timeout` where the service does not answer.
    pub async fn open(options: S3Options) -> PortResult<Self> {
        let blobs = Self::unchecked(options).await?;
        blobs.check().await?;
        Ok(blobs)
    }

    /// The same without asking, for a server that has to come up while the service is down.
    ///
    /// # Errors
    /// `Invalid` without a region, `Denied` for a file of credentials that others can read.
    pub async fn unchecked(options: S3Options) -> PortResult<Self> {
        let client = client::connect(&options).await?;
        let bucket = Bucket { client, options, flying: Arc::new(Semaphore::new(FLYING)) };
        Ok(Self { bucket: Arc::new(bucket), tasks: Arc::new(Tasks::new()) })
    }

    /// Where these blobs lie.
    #[must_use]
    pub fn place(&self) -> &S3Place {
        &self.bucket.options.place
    }

    /// Whether the bucket is there and can be listed with these credentials.
    ///
    /// # Errors
    /// As [`S3Blobs::open`].
    pub async fn check(&self) -> PortResult<()> {
        self.bucket.check("blobs.open").await
    }

    /// Gives up unfinished uploads that are older than the options say, now and every hour, until [`S3Blobs::shutdown`].
    pub fn run(&self) {
        let (bucket, tasks) = (Arc::clone(&self.bucket), Arc::clone(&self.tasks));
        self.tasks.spawn(1, async move {
            tokio::select! {
                () = bucket.keep_sweeping() => {}
                () = tasks.stopped() => {}
            }
        });
    }

    /// Gives up unfinished uploads below the prefix that are older than the options say; answers how many.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn sweep(&self) -> PortResult<usize> {
        self.bucket.sweep().await
    }

    /// Gives what is being given up the time to end; answers how much was cut off, which a later sweep finds.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        self.tasks.shutdown(deadline).await
    }
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, key: &BlobKey, body: Body, limit: u64) -> PortResult<BlobInfo> {
        put::put(&self.bucket, &self.tasks, key, body, limit).await
    }

    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> PortResult<(BlobInfo, ByteStream)> {
        read::get(&self.bucket, key, range).await
    }

    async fn head(&self, key: &BlobKey) -> PortResult<Option<BlobInfo>> {
        read::head(&self.bucket, key).await
    }

    async fn delete(&self, key: &BlobKey) -> PortResult<()> {
        const OPERATION: &str = "blobs.delete";
        let call = self.bucket.client.delete_object().bucket(self.bucket.name()).key(self.bucket.key(key));
        match call.send().await.map_err(|error| error::failed(OPERATION, key.as_str(), &error)) {
            Ok(_) => Ok(()),
            Err(failed) if failed.is_missing() => Ok(()),
            Err(failed) => Err(failed.into()),
        }
    }

    async fn list(&self, prefix: &BlobKey, after: Option<&BlobKey>, limit: usize) -> PortResult<BlobPage> {
        if !(1..=LIST_LIMIT).contains(&limit) {
            return Err(PortError::new(ErrorKind::Invalid, "blobs.list", format!("a page of {limit} keys")));
        }
        list::page(&self.bucket, prefix, after, limit).await
    }
}
