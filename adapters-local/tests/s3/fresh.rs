//! Blobs together with the server that they lie on.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use burstflare_adapters_local::s3::{S3Blobs, S3Options};
use burstflare_ports::blob::{BlobInfo, BlobKey, BlobPage, Blobs};
use burstflare_ports::error::PortResult;
use burstflare_ports::memory::MemoryBlobs;
use burstflare_ports::stream::{Body, ByteStream};
use bytes::Bytes;

use crate::proxy::Proxy;
use crate::reach;
use crate::server::{self, Kind, Server};

/// Ends with its server.
pub(crate) struct Fresh {
    pub(crate) blobs: S3Blobs,
    pub(crate) proxy: Option<Proxy>,
    server: Server,
}

impl Fresh {
    /// Blobs on a server of their own, spoken to as `make` says.
    pub(crate) async fn start(make: impl FnOnce(u16) -> S3Options) -> Option<Self> {
        let server = Server::start()?;
        let blobs = reach::blobs(make(server.port)).await;
        Some(Self { blobs, proxy: None, server })
    }

    /// With a proxy before it, which passes everything on until it is told otherwise.
    pub(crate) async fn behind_proxy(make: impl FnOnce(u16) -> S3Options) -> Option<Self> {
        let server = Server::start()?;
        let proxy = Proxy::start(server.port).await;
        let blobs = reach::blobs(make(proxy.port)).await;
        Some(Self { blobs, proxy: Some(proxy), server })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.server.kind
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("a proxy")
    }

    /// The same place, not through the proxy: to see what is really there.
    pub(crate) async fn direct(&self, prefix: &str) -> S3Blobs {
        reach::blobs(reach::options(self.server.port, prefix, "")).await
    }

    /// Puts an object as any other program would.
    pub(crate) async fn put_foreign(&self, key: &str, text: &'static str) {
        let client = reach::client(self.server.port);
        let call = client.put_object().bucket(server::BUCKET).key(key).body(Bytes::from(text).into());
        call.send().await.expect("put");
    }

    /// As a conformance case wants it. Where no server is installed, which was said loudly, memory stands in.
    pub(crate) fn or_memory(found: Option<Self>) -> Arc<dyn Blobs> {
        found.map_or_else(|| Arc::new(MemoryBlobs::default()) as Arc<dyn Blobs>, |fresh| Arc::new(fresh))
    }
}

#[async_trait]
impl Blobs for Fresh {
    async fn put(&self, key: &BlobKey, body: Body, limit: u64) -> PortResult<BlobInfo> {
        self.blobs.put(key, body, limit).await
    }

    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> PortResult<(BlobInfo, ByteStream)> {
        self.blobs.get(key, range).await
    }

    async fn head(&self, key: &BlobKey) -> PortResult<Option<BlobInfo>> {
        self.blobs.head(key).await
    }

    async fn delete(&self, key: &BlobKey) -> PortResult<()> {
        self.blobs.delete(key).await
    }

    async fn list(&self, prefix: &BlobKey, after: Option<&BlobKey>, limit: usize) -> PortResult<BlobPage> {
        self.blobs.list(prefix, after, limit).await
    }
}
