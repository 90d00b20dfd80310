//! Garage: what of the protocol it knows it does as AWS does.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{BUCKET, DOMAIN, KEY, REGION, SECRET, free_ports};

pub(super) fn prepare(command: &mut Command, folder: &Path) -> (u16, Vec<PathBuf>) {
    let [port, rpc] = free_ports();
    let config = folder.join("garage.toml");
    let text = format!(
        "metadata_dir = \"{0}/meta\"\ndata_dir = \"{0}/data\"\ndb_engine = \"lmdb\"\nreplication_factor = 1\n\
         lmdb_map_size = \"1G\"\nrpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\n\
         rpc_secret = \"{1}\"\n\
         [s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"127.0.0.1:{port}\"\nroot_domain = \".{DOMAIN}\"\n",
        folder.display(),
        "0123456789abcdef".repeat(4),
    );
    std::fs::write(&config, text).expect("written");
    command.arg("-c").arg(config).args(["server", "--single-node", "--default-bucket"]);
    command.env("GARAGE_DEFAULT_ACCESS_KEY", KEY).env("GARAGE_DEFAULT_SECRET_KEY", SECRET);
    command.env("GARAGE_DEFAULT_BUCKET", BUCKET).env("RUST_LOG", "warn");
    (port, Vec::new())
}
