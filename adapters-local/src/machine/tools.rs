//! Tool folders of the host that every machine gets, read-only.

use std::fs;
use std::path::{Path, PathBuf};

use burstflare_ports::error::{ErrorKind, PortError, PortResult};

use super::TOOLS;

/// A folder of tools.
#[derive(Debug, Clone)]
pub(crate) struct ToolFolder {
    /// Its name inside, unique.
    pub name: String,
    /// Where it is.
    pub folder: PathBuf,
    /// Whether its programs lie in `bin`.
    pub bin: bool,
}

impl ToolFolder {
    /// What is put on PATH.
    pub(crate) fn path_inside(&self) -> String {
        let bin = if self.bin { "/bin" } else { "" };
        format!("{TOOLS}/{}{bin}", self.name)
    }
}

/// Looks the configured folders up and names them after their last parts.
pub(crate) fn find(folders: &[PathBuf]) -> PortResult<Vec<ToolFolder>> {
    let mut tools: Vec<ToolFolder> = Vec::new();
    for folder in folders {
        let real = fs::canonicalize(folder).ok().filter(|real| real.is_dir()).ok_or_else(|| {
            PortError::new(
                ErrorKind::Invalid,
                "sandbox.open",
                format!("no tool folder at {}", folder.display()),
            )
        })?;
        let stem = name(&real);
        let taken = |name: &str| tools.iter().any(|tool| tool.name == name);
        let name = (1..)
            .map(|number| if number == 1 { stem.clone() } else { format!("{stem}-{number}") })
            .find(|name| !taken(name))
            .unwrap_or(stem);
        tools.push(ToolFolder { name, bin: real.join("bin").is_dir(), folder: real });
    }
    Ok(tools)
}

fn name(folder: &Path) -> String {
    let text = folder.file_name().unwrap_or_default().to_string_lossy();
    let name: String = text
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || "._-".contains(*letter))
        .take(64)
        .collect();
    if name.chars().all(|letter| letter == '.') { "tool".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_harmless() {
        let root = tempfile::tempdir().expect("folder");
        let folders: Vec<PathBuf> =
            ["a/rust/bin", "b/rust", "c/ü :,"].iter().map(|path| root.path().join(path)).collect();
        for folder in &folders {
            fs::create_dir_all(folder).expect("folder");
        }
        let folders = [root.path().join("a/rust"), folders[1].clone(), folders[2].clone()];
        let tools = find(&folders).expect("tools");
        let inside: Vec<String> = tools.iter().map(ToolFolder::path_inside).collect();
        assert_eq!(inside, ["/opt/flare/tools/rust/bin", "/opt/flare/tools/rust-2", "/opt/flare/tools/tool"]);
        assert!(find(&[root.path().join("none")]).is_err());
    }
}
