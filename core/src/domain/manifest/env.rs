use std::collections::BTreeMap;

use toml::de::DeValue;

use super::ManifestLimits;
use super::document::{Entry, Reader};

const LONGEST_NAME: usize = 128;

/// Who and where the session is, said by the machine itself. Everything else may be set, PATH and SHELL included: a
/// template may bring its own tools.
const RESERVED: [&str; 8] = ["HOME", "USER", "LOGNAME", "PWD", "OLDPWD", "SHLVL", "_", "SOURCE_DATE_EPOCH"];
/// Names that the machine keeps for itself.
const RESERVED_PREFIX: &str = "FLARE_";

/// The variables of `[env]`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    entry: Option<Entry<'_, '_>>,
    limits: &ManifestLimits,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let Some(entry) = entry else { return variables };
    let Some(table) = reader.table(&entry, "a table of variables") else { return variables };
    if table.entries().count() > limits.variables {
        reader.problem(&entry, format!("has more than {} variables", limits.variables));
        return variables;
    }
    for (name, entry) in table.entries() {
        if let Err(sentence) = check_name(name) {
            reader.problem(&entry, sentence);
            continue;
        }
        let wanted = match entry.value() {
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                "a text; variables are texts, so put the value in quotes"
            }
            _ => "a text in quotes",
        };
        let Some(value) = reader.text_like(&entry, wanted) else { continue };
        if value.len() > limits.value {
            reader.problem(&entry, format!("is longer than {} bytes", limits.value));
            continue;
        }
        variables.insert(name.to_owned(), value.to_owned());
    }
    variables
}

fn check_name(name: &str) -> Result<(), String> {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("is no name of a variable; use letters, digits and `_`, and no digit first".to_owned());
    }
    if name.len() > LONGEST_NAME {
        return Err(format!("is longer than {LONGEST_NAME} bytes"));
    }
    if RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX) {
        return Err("is set by the machine and cannot be overridden".to_owned());
    }
    Ok(())
}
