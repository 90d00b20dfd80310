use std::sync::Arc;

use burstflare_adapters_local::sqlite::SqliteStore;
use burstflare_ports::store::Store;

/// Each case has a process of its own under nextest, and a file of its own anyway.
async fn store() -> Arc<dyn Store> {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let data = burstflare_adapters_local::sqlite::DataFolder::open(folder).expect("the folder");
    let now = burstflare_ports::time::Timestamp::from_millis(1);
    let database =
        burstflare_adapters_local::sqlite::SqliteDatabase::open(&data, now).await.expect("the database");
    Arc::new(SqliteStore::new(database))
}

burstflare_ports::store_tests!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    store
);
