//! Calls of the files API.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use burstflare_ports::wire::Refusal;
use burstflare_ports::wire::files::FileInfo;
use burstflare_ports::wire::path;
use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;

use crate::machine::Machine;
/// A call's answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn code(&self) -> String {
        serde_json::from_slice::<Refusal>(&self.bytes).unwrap().code
    }

    #[track_caller]
    pub(crate) fn info(&self) -> FileInfo {
        assert_eq!(self.status, 200, "{:?}", self.bytes);
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn query(path_bytes: &[u8], rest: &str) -> String {
    let text: String = form_urlencoded::byte_serialize(path::encode(path_bytes).as_bytes()).collect();
    format!("/v1/files?path={text}{rest}")
}

pub(crate) async fn ask(
    machine: &Machine,
    method: Method,
    uri: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let response = machine.open_with(method, uri, headers, body).await;
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status.as_u16(), headers: head.headers, bytes }
}

pub(crate) async fn get(machine: &Machine, path: &[u8]) -> Answer {
    ask(machine, Method::GET, &query(path, ""), &[], "").await
}

pub(crate) async fn put(
    machine: &Machine,
    path: &[u8],
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    ask(machine, Method::PUT, &query(path, ""), headers, body).await
}

pub(crate) fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
