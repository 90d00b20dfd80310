//! What to type next.

use std::path::Path;

use crate::text::shell_word;

/// The way from nothing to a shell in a session, for this server.
#[must_use]
pub fn next_lines(url: &str) -> String {
    format!(
        "Type in another terminal:\n\
         \n  flare auth register --email you@example.com --url {url}\
         \n  flare template create node-dev\
         \n  flare template upload node-dev --version 1.0.0\
         \n  flare template promote node-dev 1.0.0\
         \n  flare session up sandbox --template node-dev\
         \n  flare ssh sandbox\n{}",
        path_help(std::env::current_exe().ok().as_deref(), std::env::var_os("PATH").as_deref())
    )
}

/// How to make `flare` a word of the shell, where it is none yet.
fn path_help(exe: Option<&Path>, path: Option<&std::ffi::OsStr>) -> String {
    let Some(dir) = exe.and_then(Path::parent) else { return String::new() };
    if path.is_some_and(|path| std::env::split_paths(path).any(|entry| entry == dir)) {
        return String::new();
    }
    format!(
        "\n`flare` is not on your PATH yet: export PATH={}:\"$PATH\"\n",
        shell_word(&dir.display().to_string())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_explained_only_where_it_is_missing() {
        let exe = Path::new("/opt/x y/flare");
        assert!(path_help(Some(exe), Some("/bin:/opt/x y".as_ref())).is_empty());
        assert!(path_help(Some(exe), Some("/bin".as_ref())).contains("export PATH='/opt/x y':"));
    }
}
