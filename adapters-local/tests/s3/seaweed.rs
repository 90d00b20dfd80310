//! SeaweedFS: all its servers in one process. It keeps objects as files in folders, and that shows.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{BUCKET, DOMAIN, KEY, SECRET, free_ports};

/// AWS lists by the bytes of the whole key; this server lists folder by folder, and a page that begins behind `a.b` leaves out `a/b`,
/// although `/` comes after `.`. `listing` tests pages with keys in which both orders are the same.
pub(super) const LEFT_OUT: [&str; 1] = ["listing::keys_are_listed_in_order_in_pages"];

pub(super) fn prepare(command: &mut Command, folder: &Path) -> (u16, Vec<PathBuf>) {
    const NAMES: [&str; 5] = ["master", "volume", "filer", "admin", "s3"];
    let (plain, rpc) = (free_ports::<5>(), free_ports::<5>());
    let data = folder.join("data");
    std::fs::create_dir(&data).expect("made");
    let keys = folder.join("keys.json");
    let text = format!(
        r#"{{"identities":[{{"name":"flare","credentials":[{{"accessKey":"{KEY}","secretKey":"{SECRET}"}}],
        "actions":["Admin","Read","List","Tagging","Write"]}}]}}"#
    );
    std::fs::write(&keys, text).expect("written");
    command.current_dir(folder).env("HOME", folder).env("TMPDIR", folder);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "S3_BUCKET", "S3_TABLE_BUCKET"] {
        command.env_remove(name);
    }
    command.args(["-logtostderr=true", "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
    command.args(["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
    command.args([format!("-bucket={BUCKET}"), format!("-s3.domainName={DOMAIN}")]);
    command.args([format!("-dir={}", data.display()), format!("-s3.config={}", keys.display())]);
    let mut litter = Vec::new();
    for ((name, plain), rpc) in NAMES.into_iter().zip(plain).zip(rpc) {
        command.args([format!("-{name}.port={plain}"), format!("-{name}.port.grpc={rpc}")]);
        // Sockets beside the ports, in a folder that it cannot be told.
        litter.push(format!("/tmp/seaweedfs-{name}-{plain}.sock").into());
        litter.push(format!("/tmp/seaweedfs-{name}-grpc-{rpc}.sock").into());
    }
    (plain[4], litter)
}
