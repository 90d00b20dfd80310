use super::document::{Entry, Reader};
use super::{ManifestLimits, ROOTS};

const LONGEST: usize = 1024;

/// The folders that persist, both roots by default. Where the list names exactly the roots, it comes in their order.
pub(super) fn read(
    reader: &mut Reader<'_>,
    entry: Option<Entry<'_, '_>>,
    limits: &ManifestLimits,
) -> Vec<String> {
    let default = || ROOTS.map(str::to_owned).to_vec();
    let Some(entry) = entry else { return default() };
    let folders = reader.list(&entry, "a list of folders, such as [\"/workspace\"]", limits.persist);
    if entry.value().as_array().is_some_and(|list| list.is_empty()) {
        reader.problem(&entry, "is empty; a session would lose everything when it stops".to_owned());
    }
    let mut paths: Vec<String> = Vec::new();
    for folder in &folders {
        let Some(path) = reader.text_like(folder, "a folder in quotes") else { continue };
        if let Err(sentence) = check(path) {
            reader.problem(folder, sentence);
        } else if let Some(other) = paths.iter().find(|other| covers(other, path) || covers(path, other)) {
            let sentence = format!("is {path}, which overlaps with {other}; name the upper one only");
            reader.problem(folder, sentence);
        } else {
            paths.push(path.to_owned());
        }
    }
    if paths.len() == ROOTS.len() && ROOTS.iter().all(|root| paths.iter().any(|path| path == root)) {
        return default();
    }
    paths
}

fn check(path: &str) -> Result<(), String> {
    if path.len() > LONGEST || path.chars().any(char::is_control) {
        return Err(format!("is longer than {LONGEST} bytes or holds control characters"));
    }
    if !path.starts_with('/') {
        return Err(format!("has to be absolute, at or below {} or {}", ROOTS[0], ROOTS[1]));
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
    if segments.contains(&"..") {
        return Err("must not hold `..`".to_owned());
    }
    let plain = format!("/{}", segments.join("/"));
    if !ROOTS.iter().any(|root| covers(root, &plain)) {
        return Err(format!("is {plain}; only folders at or below {} or {} persist", ROOTS[0], ROOTS[1]));
    }
    if plain != path {
        return Err(format!("is not in its plain form; write \"{plain}\""));
    }
    Ok(())
}

/// Whether `upper` is `lower` or a folder above it.
fn covers(upper: &str, lower: &str) -> bool {
    lower.strip_prefix(upper).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
