//! Keys of a bucket, in the order of their texts, which is the order in which the service lists them.

use burstflare_ports::blob::{BlobKey, BlobPage};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};

use super::Bucket;
use super::error::failed;

/// Pages of objects that are no blobs, before a bucket is called somebody else's.
const FOREIGN_PAGES: usize = 100;

impl Bucket {
    /// Whether the bucket can be listed. Answers to HEAD have no body, so only this tells which of many things is wrong.
    pub(super) async fn check(&self, operation: &'static str) -> PortResult<()> {
        let call =
            self.client.list_objects_v2().bucket(self.name()).prefix(self.options.place.root()).max_keys(1);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let failed = failed(operation, self.name(), &error);
                let unnamed = failed.code.is_none() && failed.is_missing();
                let no_bucket = "there is no such bucket: create it, or correct the URL of the blobs";
                Err(if unnamed {
                    PortError::new(ErrorKind::Denied, operation, format!("{}: {no_bucket}", self.name()))
                } else {
                    failed.into()
                })
            }
        }
    }
}

/// The keys below `prefix` behind `after`, at most `limit`.
pub(super) async fn page(
    bucket: &Bucket,
    prefix: &BlobKey,
    after: Option<&BlobKey>,
    limit: usize,
) -> PortResult<BlobPage> {
    const OPERATION: &str = "blobs.list";
    let root = bucket.options.place.root();
    let below = format!("{root}{prefix}/");
    let mut behind = after.map(|after| bucket.key(after));
    let mut keys: Vec<BlobKey> = Vec::new();
    for _ in 0..FOREIGN_PAGES {
        // One more than wanted tells whether there is a next page.
        let wanted = i32::try_from(limit + 1 - keys.len()).unwrap_or(i32::MAX);
        let call = bucket.client.list_objects_v2().bucket(bucket.name()).prefix(&below).max_keys(wanted);
        let call = call.set_start_after(behind.clone());
        let answer = call.send().await.map_err(|error| failed(OPERATION, prefix.as_str(), &error))?;
        let found = answer.contents().iter().filter_map(aws_sdk_s3::types::Object::key);
        for key in found {
            behind = Some(key.to_owned());
            // What is no key was put there by somebody else.
            let Some(Ok(key)) = key.strip_prefix(&root).map(str::parse::<BlobKey>) else { continue };
            keys.push(key);
        }
        if keys.len() > limit {
            keys.truncate(limit);
            let next = keys.last().cloned();
            return Ok(BlobPage { keys, next });
        }
        if answer.is_truncated() != Some(true) {
            return Ok(BlobPage { keys, next: None });
        }
    }
    Err(PortError::new(
        ErrorKind::Corrupt,
        OPERATION,
        format!("{prefix}: the bucket is full of what are no blobs"),
    ))
}
