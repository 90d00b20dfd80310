use burstflare_ports::machine::Limits;

use super::document::{Entry, Reader};
use super::{DEFAULT_LIMITS, ManifestLimits, size};

const KEYS: [&str; 3] = ["cpu", "memory", "disk"];

/// The machine of `[resources]`.
pub(super) fn read(reader: &mut Reader<'_>, entry: Option<Entry<'_, '_>>, limits: &ManifestLimits) -> Limits {
    let mut machine = DEFAULT_LIMITS;
    let Some(entry) = entry else { return machine };
    let Some(table) = reader.table(&entry, "a table") else { return machine };
    reader.only_keys(&table, &KEYS, &KEYS);
    if let Some(millis) = table.get("cpu").and_then(|entry| cpu(reader, &entry, limits.cpu_millis)) {
        machine.cpu_millis = millis;
    }
    if let Some(memory) = table.get("memory").and_then(|entry| size::read(reader, &entry, limits.memory)) {
        machine.memory = memory;
    }
    if let Some(disk) = table.get("disk").and_then(|entry| size::read(reader, &entry, limits.disk)) {
        machine.disk = disk;
    }
    machine
}

/// Cores as thousandths, rounded.
fn cpu(reader: &mut Reader<'_>, entry: &Entry<'_, '_>, (least, most): (u32, u32)) -> Option<u32> {
    let cores = reader.number(entry)?;
    let millis = (cores * 1000.0).round();
    if !(f64::from(least)..=f64::from(most)).contains(&millis) {
        let (least, most) = (f64::from(least) / 1000.0, f64::from(most) / 1000.0);
        reader.problem(entry, format!("is {cores}; it has to be between {least} and {most} cores"));
        return None;
    }
    // Within the bounds of two u32, and whole.
    Some(millis as u32)
}
