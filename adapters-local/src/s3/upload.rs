//! An object that is put in parts: begun, filled, completed once, or given up.

use std::sync::Arc;

use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use burstflare_ports::blob::BlobKey;
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::Bucket;
use super::error::failed;
use super::facts::UPLOAD;
use super::place::Checksums;
use super::put::OPERATION;
use crate::tasks::Tasks;

/// Uploads that are being given up at once; what is beyond waits for the sweep.
const ENDING: usize = 64;

/// Parts on their way.
pub(super) type Flying = JoinSet<PortResult<CompletedPart>>;

/// An upload that was begun. Dropping it without completing gives it up.
pub(super) struct Upload {
    bucket: Arc<Bucket>,
    tasks: Arc<Tasks>,
    key: BlobKey,
    id: String,
    /// Our name for it, which the object shows.
    mark: String,
    sent: i32,
    landed: Vec<CompletedPart>,
    done: bool,
}

impl Bucket {
    /// A turn to send a part: all puts together have a bounded number of them in the network.
    pub(super) async fn turn(&self) -> PortResult<OwnedSemaphorePermit> {
        Arc::clone(&self.flying)
            .acquire_owned()
            .await
            .map_err(|_| PortError::new(ErrorKind::Unavailable, OPERATION, "the server is ending"))
    }

    fn checksum(&self) -> Option<ChecksumAlgorithm> {
        match self.options.place.checksums {
            Checksums::Supported => Some(ChecksumAlgorithm::Crc32),
            Checksums::Required => None,
        }
    }

    /// Gives an upload up; one that is gone is given up.
    pub(super) async fn abort(&self, operation: &'static str, key: &str, id: &str) -> PortResult<()> {
        let call = self.client.abort_multipart_upload().bucket(self.name()).key(key).upload_id(id);
        match call.send().await.map_err(|error| failed(operation, key, &error)) {
            Ok(_) => Ok(()),
            Err(failed) if failed.is_missing() => Ok(()),
            Err(failed) => Err(failed.into()),
        }
    }
}

impl Upload {
    pub(super) async fn begin(bucket: &Arc<Bucket>, tasks: &Arc<Tasks>, key: &BlobKey) -> PortResult<Self> {
        let chance = |_| PortError::new(ErrorKind::Internal, OPERATION, "the system has no randomness");
        let mark =
            format!("{:016x}{:016x}", getrandom::u64().map_err(chance)?, getrandom::u64().map_err(chance)?);
        let call = bucket.client.create_multipart_upload().bucket(bucket.name()).key(bucket.key(key));
        let call = call.metadata(UPLOAD, &mark).content_type("application/octet-stream");
        let call = call.set_checksum_algorithm(bucket.checksum());
        let answer = call.send().await.map_err(|error| failed(OPERATION, key.as_str(), &error))?;
        let id = answer.upload_id.ok_or_else(|| {
            PortError::new(ErrorKind::Internal, OPERATION, format!("{key}: the upload has no id"))
        })?;
        let (bucket, tasks) = (Arc::clone(bucket), Arc::clone(tasks));
        Ok(Self { bucket, tasks, key: key.clone(), id, mark, sent: 0, landed: Vec::new(), done: false })
    }

    /// Sends a part, once fewer than `ahead` others fly.
    pub(super) async fn send(&mut self, flying: &mut Flying, bytes: Bytes, ahead: usize) -> PortResult<()> {
        while flying.len() >= ahead {
            self.land(flying).await?;
        }
        self.sent += 1;
        let (bucket, number) = (Arc::clone(&self.bucket), self.sent);
        let (key, id, what) = (bucket.key(&self.key), self.id.clone(), self.key.clone());
        flying.spawn(async move {
            let _turn = bucket.turn().await?;
            let call =
                bucket.client.upload_part().bucket(bucket.name()).key(key).upload_id(id).part_number(number);
            let call = call.set_checksum_algorithm(bucket.checksum()).body(bytes.into());
            let answer = call.send().await.map_err(|error| failed(OPERATION, what.as_str(), &error))?;
            let part = CompletedPart::builder().part_number(number);
            let part = part.set_e_tag(answer.e_tag).set_checksum_crc32(answer.checksum_crc32);
            Ok(part.build())
        });
        Ok(())
    }

    /// Waits for all parts.
    pub(super) async fn landed(&mut self, flying: &mut Flying) -> PortResult<()> {
        while !flying.is_empty() {
            self.land(flying).await?;
        }
        Ok(())
    }

    async fn land(&mut self, flying: &mut Flying) -> PortResult<()> {
        if let Some(landed) = flying.join_next().await {
            let part = landed
                .map_err(|_| PortError::new(ErrorKind::Internal, OPERATION, "a part was cut off"))??;
            self.landed.push(part);
        }
        Ok(())
    }

    /// Makes the object appear. An answer that is lost is no failure: the object shows whose it is.
    pub(super) async fn complete(mut self) -> PortResult<()> {
        let mut parts = std::mem::take(&mut self.landed);
        parts.sort_unstable_by_key(CompletedPart::part_number);
        let whole = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let key = self.bucket.key(&self.key);
        let call = self.bucket.client.complete_multipart_upload().bucket(self.bucket.name()).key(key);
        let call = call.upload_id(&self.id).multipart_upload(whole);
        if let Err(error) = call.send().await {
            let failed = failed(OPERATION, self.key.as_str(), &error);
            if !failed.is_ambiguous() || !self.is_there().await {
                return Err(failed.into());
            }
            tracing::debug!(key = %self.key, "the upload was completed although its answer was lost");
        }
        self.done = true;
        Ok(())
    }

    /// Gives it up now, and says how that went.
    pub(super) async fn give_up(mut self) -> PortResult<()> {
        self.bucket.abort(OPERATION, &self.bucket.key(&self.key), &self.id).await?;
        self.done = true;
        Ok(())
    }

    async fn is_there(&self) -> bool {
        let call =
            self.bucket.client.head_object().bucket(self.bucket.name()).key(self.bucket.key(&self.key));
        let answer = call.send().await;
        answer.is_ok_and(|found| found.metadata().is_some_and(|found| found.get(UPLOAD) == Some(&self.mark)))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.done || Handle::try_current().is_err() {
            return;
        }
        let (bucket, key, id) =
            (Arc::clone(&self.bucket), self.bucket.key(&self.key), std::mem::take(&mut self.id));
        let given_up = self.tasks.spawn(ENDING, async move {
            if let Err(error) = bucket.abort(OPERATION, &key, &id).await {
                tracing::debug!(?error, "the upload is left to the sweep");
            }
        });
        if !given_up {
            tracing::debug!(key = %self.key, "the upload is left to the sweep");
        }
    }
}
