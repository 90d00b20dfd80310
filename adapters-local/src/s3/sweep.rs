//! Uploads that nobody will finish: their process died, or it could not give them up. Their parts cost space and are never seen.

use std::time::{Duration, SystemTime};

use burstflare_ports::error::{ErrorKind, PortError, PortResult};

use super::Bucket;
use super::error::failed;

const OPERATION: &str = "blobs.sweep";
/// Between two sweeps.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// Pages of one sweep; the next one goes on.
const PAGES: usize = 100;

impl Bucket {
    pub(super) async fn keep_sweeping(&self) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.sweep().await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "uploads that nobody finished were given up"),
                Err(error) => tracing::warn!(?error, "unfinished uploads stay until the next sweep"),
            }
        }
    }

    pub(super) async fn sweep(&self) -> PortResult<usize> {
        let root = self.options.place.root();
        let before = SystemTime::now().checked_sub(self.options.stale);
        let (mut key_marker, mut id_marker, mut count) = (None, None, 0);
        for _ in 0..PAGES {
            let call = self.client.list_multipart_uploads().bucket(self.name()).prefix(&root);
            let call = call.set_key_marker(key_marker.take()).set_upload_id_marker(id_marker.take());
            let answer = call.send().await.map_err(|error| failed(OPERATION, self.name(), &error))?;
            for upload in answer.uploads() {
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                let begun = upload.initiated().and_then(|begun| SystemTime::try_from(*begun).ok());
                // Age is all that tells an abandoned upload from one of another server on the same prefix.
                let stale = begun.zip(before).is_some_and(|(begun, before)| begun <= before);
                let ours = key.strip_prefix(&root).is_some_and(|key| key.parse::<super::BlobKey>().is_ok());
                if stale && ours {
                    self.abort(OPERATION, key, id).await?;
                    count += 1;
                }
            }
            if answer.is_truncated() != Some(true) {
                return Ok(count);
            }
            (key_marker, id_marker) = (answer.next_key_marker, answer.next_upload_id_marker);
            if key_marker.is_none() {
                return Err(PortError::new(
                    ErrorKind::Internal,
                    OPERATION,
                    "the service lists without an end",
                ));
            }
        }
        Ok(count)
    }
}
