use super::ManifestLimits;
use super::document::{Entry, Reader};

/// The lines of `setup`.
pub(super) fn read_setup(
    reader: &mut Reader<'_>,
    entry: Option<Entry<'_, '_>>,
    limits: &ManifestLimits,
) -> Vec<String> {
    let Some(entry) = entry else { return Vec::new() };
    let lines = reader.list(&entry, "a list of command lines, such as [\"make deps\"]", limits.steps);
    lines.iter().filter_map(|line| command(reader, line, limits)).collect()
}

/// The command of `on_start`.
pub(super) fn read_on_start(
    reader: &mut Reader<'_>,
    entry: Option<Entry<'_, '_>>,
    limits: &ManifestLimits,
) -> Option<String> {
    command(reader, &entry?, limits)
}

fn command(reader: &mut Reader<'_>, entry: &Entry<'_, '_>, limits: &ManifestLimits) -> Option<String> {
    let line = reader.text_like(entry, "a command line in quotes")?;
    if line.trim().is_empty() {
        reader.problem(entry, "is empty; leave it out, or write a command".to_owned());
        return None;
    }
    if line.len() > limits.step {
        let sentence =
            format!("is longer than {} bytes; put it into a script in the folder and call that", limits.step);
        reader.problem(entry, sentence);
        return None;
    }
    Some(line.to_owned())
}
