use burstflare_ports::record::{PortSpec, Visibility};
use burstflare_ports::text::Slug;
use burstflare_ports::wire::AGENT_PORT;

use super::ManifestLimits;
use super::document::{Entry, Reader, Table};
use super::near::nearest;

const KEYS: [&str; 3] = ["port", "name", "visibility"];
const VISIBILITIES: [(&str, Visibility); 3] =
    [("private", Visibility::Private), ("workspace", Visibility::Workspace), ("public", Visibility::Public)];

/// The entries of `[[ports]]`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    entry: Option<Entry<'_, '_>>,
    limits: &ManifestLimits,
) -> Vec<PortSpec> {
    let mut ports: Vec<PortSpec> = Vec::new();
    let Some(entry) = entry else { return ports };
    for entry in reader.list(&entry, "a list of tables, each begun by [[ports]]", limits.ports) {
        let Some(table) = reader.table(&entry, "a table begun by [[ports]]") else { continue };
        reader.only_keys(&table, &KEYS, &KEYS);
        let port = number(reader, &entry, &table, &ports);
        let name = name(reader, &table, &ports);
        let visibility = visibility(reader, &table);
        if let Some(port) = port {
            ports.push(PortSpec { port, name, visibility });
        }
    }
    ports
}

fn number(
    reader: &mut Reader<'_>,
    whole: &Entry<'_, '_>,
    table: &Table<'_, '_>,
    others: &[PortSpec],
) -> Option<u16> {
    let Some(entry) = table.get("port") else {
        reader.problem(whole, "has no `port`".to_owned());
        return None;
    };
    let given = reader.integer(&entry)?;
    let sentence = match u16::try_from(given) {
        Err(_) | Ok(0) => format!("is {given}; a port is between 1 and 65535"),
        Ok(AGENT_PORT) => format!("is {AGENT_PORT}, which the machine itself uses; take another one"),
        Ok(port) if others.iter().any(|other| other.port == port) => format!("is {port}, like another entry"),
        Ok(port) => return Some(port),
    };
    reader.problem(&entry, sentence);
    None
}

fn name(reader: &mut Reader<'_>, table: &Table<'_, '_>, others: &[PortSpec]) -> Option<String> {
    let entry = table.get("name")?;
    let name = reader.text(&entry)?;
    if let Err(rule) = name.parse::<Slug>() {
        reader.problem(&entry, format!("is no name: {rule}"));
        return None;
    }
    if others.iter().any(|other| other.name.as_deref() == Some(name)) {
        reader.problem(&entry, format!("is {name}, like another entry"));
        return None;
    }
    Some(name.to_owned())
}

fn visibility(reader: &mut Reader<'_>, table: &Table<'_, '_>) -> Visibility {
    let default = Visibility::Private;
    let Some(entry) = table.get("visibility") else { return default };
    let Some(word) = reader.text(&entry) else { return default };
    if let Some((_, visibility)) = VISIBILITIES.iter().find(|(name, _)| *name == word) {
        return *visibility;
    }
    let names = VISIBILITIES.map(|(name, _)| name);
    let meant = nearest(word, &names).map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
    reader.problem(&entry, format!("has to be \"private\", \"workspace\" or \"public\"{meant}"));
    default
}
