//! The conformance suite, on a server in order.

mod prefixed {
    use std::sync::Arc;

    use burstflare_ports::blob::Blobs;

    use crate::fresh::Fresh;
    use crate::reach::options;

    async fn backend() -> Arc<dyn Blobs> {
        Fresh::or_memory(Fresh::start(|port| options(port, "blobs/of/flare", "")).await)
    }

    burstflare_ports::blob_tests!(
        #[tokio::test]
        backend,
        unless crate::server::left_out
    );
}

/// Without a prefix, without the newer checksums, in parts: as little as possible is the same.
mod bare {
    use std::sync::Arc;

    use burstflare_adapters_local::s3::S3Options;
    use burstflare_ports::blob::Blobs;

    use crate::fresh::Fresh;
    use crate::reach::options;

    async fn backend() -> Arc<dyn Blobs> {
        let make = |port| S3Options {
            part: crate::server::least_part(),
            ..options(port, "", "&checksums=required")
        };
        Fresh::or_memory(Fresh::start(make).await)
    }

    burstflare_ports::blob_tests!(
        #[tokio::test]
        backend,
        unless crate::server::left_out
    );
}
