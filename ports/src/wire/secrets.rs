use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// All secrets of a session's workspace, instead of those that were told before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// Counts their changes. Older ones than those that are known are ignored.
    pub version: u64,
    /// Values by the name of their variable; without NUL bytes.
    pub values: BTreeMap<String, Secret<String>>,
}

/// The most bytes that all names and values of [`Secrets`] may have together: what a process can be born with is
/// bounded by the kernel (execve(2)), and most of it is the template's and the user's.
pub const SECRETS_TOTAL: usize = 512 << 10;

/// Variables that no secret may be called: who the user is, what is run and how we reach it is not for values to say.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    matches!(name, "PATH" | "HOME" | "USER" | "LOGNAME" | "SHELL" | "HOSTNAME" | "PWD" | "TERM" | "IFS")
        || name.starts_with("LD_")
        || name.starts_with("FLARE_")
}
