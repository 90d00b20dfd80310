use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::machine::Epoch;
use crate::secret::Secret;

/// The one message on the boot pipe: JSON up to end of file, at most [`super::BOOT_LIMIT`] bytes.
/// An agent whose pipe closes before a whole message came exits at once, so a server that dies while it
/// starts a machine leaves none behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Boot {
    /// The highest protocol version the edge speaks.
    pub protocol: u16,
    /// The machine's name, for its log lines and prompt.
    pub machine: String,
    /// The life it belongs to.
    pub epoch: Epoch,
    /// The key that every call has to carry.
    pub key: Secret<String>,
    /// Seed of the machine's ed25519 SSH host key (RFC 8032): 32 bytes in base64.
    pub ssh_host_seed: Secret<String>,
    /// Host name inside.
    pub hostname: String,
    /// The persisted roots, absolute; the first one is where shells and commands begin.
    pub roots: Vec<String>,
    /// Home folder of the user.
    pub home: String,
    /// Variables of every process started for the user, besides the standard ones.
    pub env: BTreeMap<String, String>,
    /// Runs (`sh -c`) when [`super`]'s `hooks/start` is called.
    pub on_start: Option<String>,
    /// The way out, where there is one; the runtime fills it in.
    pub egress: Option<Egress>,
    /// Folders put in front of PATH; the runtime fills them in.
    #[serde(default)]
    pub path: Vec<String>,
    /// Folder of the agent below the user's runtime folder, on a tmpfs and in no snapshot; made where it is missing.
    #[serde(default = "run_folder", skip_serializing_if = "is_run_folder")]
    pub run: String,
}

/// [`Boot::run`] where nobody says otherwise.
#[must_use]
pub fn run_folder() -> String {
    "/run/user/1000/flare".to_owned()
}

/// The agent listens on `listen` (loopback inside the machine) and carries each connection to the unix socket, behind
/// which the server's egress proxy answers HTTP CONNECT and absolute-form requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// `127.0.0.1:PORT`; also the value of HTTP_PROXY and HTTPS_PROXY (both cases), with `http://` before it.
    pub listen: String,
    /// Path inside the machine.
    pub socket: String,
}

fn is_run_folder(run: &str) -> bool {
    run == run_folder()
}
