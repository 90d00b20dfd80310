//! `flare config-ssh`: teaches plain `ssh`, `scp`, `sftp`, `rsync` and editors the way to `NAME.flare`.

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::place;
use crate::ssh::{self, Key, KnownHosts, Program};

const BEGIN: &str = "# >>> flare config-ssh >>>";
const END: &str = "# <<< flare config-ssh <<<";

/// Where to write it.
#[derive(Debug, Args)]
pub struct ConfigSsh {
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Write the block into this file instead of including it from $HOME/.ssh/config.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Runs `flare config-ssh`.
///
/// # Errors
/// When a file cannot be written or the user says no.
pub fn run(context: &Context, args: &ConfigSsh) -> Outcome {
    let origin = context.origin()?;
    let config_dir = context.config_dir()?;
    let key = Key::ensure(&config_dir)?;
    let hosts = KnownHosts::new(&config_dir, &origin);
    place::private_dir(hosts.dir())?;
    let known = format!("{}/%h", ssh::quotable(hosts.dir())?);
    let options = Program::new(origin.clone(), &config_dir)?.options("'%h'", &key.path, &known)?;
    let block = block(&options);
    let (file, included) = match &args.file {
        Some(file) => (place::absolute(file)?, None),
        None => {
            let dir = home()?.join(".ssh");
            (dir.join("config"), Some(dir.join("flare.config")))
        }
    };
    if !args.yes && !confirmed(context, &file)? {
        return Err(Failure::new(Exit::Interrupted, "nothing was written"));
    }
    let section = match &included {
        Some(path) => {
            place::private_dir(path.parent().unwrap_or(Path::new("/")))?;
            write(path, &block)?;
            format!("Include {}\n", ssh::quoted(&ssh::writable(path)?))
        }
        // What follows in the file is not ours, and must not become part of our host.
        None => format!("{block}\nHost *\n"),
    };
    let changed = insert(&file, &section)?;
    let plain = tell(context, &file, args.file.is_some());
    let document = json!({
        "file": file, "included": included, "changed": changed, "server": origin.to_string(), "default": plain,
    });
    context.output.result(&document, || {
        let command = if plain {
            "ssh".to_owned()
        } else {
            format!("ssh -F {}", crate::text::shell_word(&file.display().to_string()))
        };
        format!("Now `{command} NAME.flare` reaches the sessions of {origin}; scp, sftp and rsync do, too.")
    });
    Ok(0)
}

fn block(options: &[(&'static str, String)]) -> String {
    let mut text =
        "# Written by `flare config-ssh`; what is changed here is lost when it runs again.\nHost *.flare\n"
            .to_owned();
    for (name, value) in options {
        text.push_str(&format!("    {name} {value}\n"));
    }
    text
}

/// `$HOME`, and the user database only where that is not set.
fn home() -> Result<PathBuf, Failure> {
    let home = place::home().ok_or_else(|| {
        Failure::usage("there is no home folder: HOME is not set")
            .hint("Name the file: `flare config-ssh --file FILE`.")
    })?;
    place::absolute(&home)
}

/// Says where OpenSSH looks by itself; answers whether it looks here.
fn tell(context: &Context, file: &Path, named: bool) -> bool {
    let default = place::passwd_home().map(|home| home.join(".ssh/config"));
    let same = default.as_ref().is_some_and(|default| {
        default == file
            || matches!((default.canonicalize(), file.canonicalize()), (Ok(one), Ok(other)) if one == other)
    });
    if !same && !named {
        let reads = default.map_or_else(|| "another folder".to_owned(), |path| path.display().to_string());
        context.output.warn(&format!(
            "OpenSSH takes its files from the user database, not from HOME: by itself it reads {reads}. Name this file with -F."
        ));
    }
    same
}

/// Asks at a terminal; where nobody can answer, whoever called us has decided.
fn confirmed(context: &Context, file: &Path) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(true);
    }
    context.output.note(&format!("This adds a section to {}. Go on? [Y/n]", file.display()));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::local("cannot read the answer", error))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes"))
}

/// Puts our section at the top of the file, where nothing before it can win, in place of an earlier one.
fn insert(file: &Path, section: &str) -> Result<bool, Failure> {
    let failed = |error| Failure::local(format_args!("cannot read {}", file.display()), error);
    // A link to somebody's dotfiles stays one.
    let target = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let present = match fs::read(&target) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed(error)),
    };
    let mut next = format!("{BEGIN}\n{section}{END}\n").into_bytes();
    let rest = without(&present);
    if !rest.is_empty() && !rest.starts_with(b"\n") {
        next.push(b'\n');
    }
    next.extend_from_slice(&rest);
    if next == present {
        return Ok(false);
    }
    if let Some(parent) = target.parent() {
        place::private_dir(parent)?;
    }
    let mode = fs::metadata(&target).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
    place::replace(&target, &next, mode)
        .map_err(|error| Failure::local(format_args!("cannot write {}", target.display()), error))?;
    Ok(true)
}

/// The file without our section. One whose end is missing is left alone: what is in it may not be ours.
fn without(present: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = present.split_inclusive(|byte| *byte == b'\n').collect();
    let is = |line: &&[u8], mark: &str| line.trim_ascii() == mark.as_bytes();
    let begin = lines.iter().position(|line| is(line, BEGIN));
    let end = lines.iter().position(|line| is(line, END));
    match (begin, end) {
        (Some(begin), Some(end)) if begin < end => [&lines[..begin], &lines[end + 1..]].concat().concat(),
        _ => present.to_vec(),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if fs::read(path).is_ok_and(|present| present == text.as_bytes()) {
        return Ok(());
    }
    place::replace(path, text.as_bytes(), 0o600)
        .map_err(|error| Failure::local(format_args!("cannot write {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_is_replaced_and_the_rest_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("config");
        fs::write(&file, "Host a\n    User b\n").expect("written");
        assert_eq!(insert(&file, "Include \"/x\"\n"), Ok(true));
        assert_eq!(insert(&file, "Include \"/x\"\n"), Ok(false));
        assert_eq!(insert(&file, "Include \"/y\"\n"), Ok(true));
        let text = fs::read_to_string(&file).expect("text");
        assert_eq!(text, format!("{BEGIN}\nInclude \"/y\"\n{END}\n\nHost a\n    User b\n"));
    }

    #[test]
    fn half_a_section_is_not_taken_for_ours() {
        let text = format!("{BEGIN}\nHost a\n");
        assert_eq!(without(text.as_bytes()), text.as_bytes());
    }
}
