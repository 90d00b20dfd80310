//! Everything that a server does on the service, tried once: to name what is missing before it is missed.

use burstflare_ports::blob::{BlobKey, Blobs};
use burstflare_ports::error::{ErrorKind, PortError, PortResult};
use burstflare_ports::stream::Body;
use bytes::Bytes;

use super::S3Blobs;
use super::upload::Upload;

const OPERATION: &str = "blobs.rehearse";
const TEXT: &[u8] = b"flare was here";

/// One thing that a server does, and whether it went well.
#[derive(Debug)]
pub struct Step {
    /// What was tried.
    pub name: &'static str,
    /// What came of it.
    pub outcome: PortResult<()>,
}

impl S3Blobs {
    /// Tries each kind of call on an object of its own, which is gone afterwards. What depends on a step that failed is left out.
    pub async fn rehearse(&self) -> Vec<Step> {
        let mut steps = vec![Step { name: "list", outcome: self.check().await }];
        let chance = getrandom::u64().unwrap_or(1);
        let Ok(key) = format!("doctor/{chance:016x}").parse::<BlobKey>() else { return steps };
        if steps.iter().any(|step| step.outcome.is_err()) {
            return steps;
        }
        let length = TEXT.len() as u64;
        let put = self.put(&key, Body::Full(Bytes::from_static(TEXT)), length).await.map(drop);
        let stored = put.is_ok();
        steps.push(Step { name: "put", outcome: put });
        if stored {
            steps.push(Step { name: "get", outcome: self.is_as_put(&key).await });
            steps.push(Step { name: "delete", outcome: self.delete(&key).await });
        }
        steps.push(Step { name: "upload in parts", outcome: self.begin_and_give_up(&key).await });
        steps.push(Step { name: "list unfinished uploads", outcome: self.sweep().await.map(drop) });
        steps
    }

    async fn is_as_put(&self, key: &BlobKey) -> PortResult<()> {
        for (range, wanted) in [(None, TEXT), (Some(1..5), &TEXT[1..5])] {
            let (_, flow) = self.get(key, range).await?;
            let found = Body::Stream(flow).collect(TEXT.len(), OPERATION).await?;
            if found != wanted {
                return Err(PortError::new(
                    ErrorKind::Corrupt,
                    OPERATION,
                    "other bytes came back than were put",
                ));
            }
        }
        Ok(())
    }

    async fn begin_and_give_up(&self, key: &BlobKey) -> PortResult<()> {
        Upload::begin(&self.bucket, &self.tasks, key).await?.give_up().await
    }
}
