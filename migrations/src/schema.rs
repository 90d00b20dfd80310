//! The migrations: forward only, one concern a file, each applied once and in order.

/// One step of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its name, remembered in `schema_migrations`; sorts in the order of application.
    pub name: &'static str,
    /// Its text.
    pub sql: &'static str,
}

impl Migration {
    /// Its statements, one by one and without the semicolon: they end in `;` and a line break, and no text in
    /// them does.
    pub fn statements(&self) -> impl Iterator<Item = &'static str> {
        self.sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
    }
}

macro_rules! migrations {
    ($($name:literal),+ $(,)?) => {
        &[$(Migration { name: $name, sql: include_str!(concat!("../sql/", $name, ".sql")) }),+]
    };
}

/// The records, in both homes.
pub const SHARED: &[Migration] = migrations![
    "0001_commit_guard",
    "0002_workspaces",
    "0003_access",
    "0004_templates",
    "0005_builds",
    "0006_releases",
    "0007_sessions",
    "0008_snapshots",
    "0009_counters",
    "0010_journal",
    "0011_outbox",
    "0012_tickets_of_tokens",
    "0013_packs",
    "0014_snapshot_details",
    "0015_session_lineage",
    "0016_session_sleep",
    "0017_secrets",
    "0020_previews",
    "0021_session_wanted",
];

/// What one machine needs besides: its job queue and its workflow journal.
pub const LOCAL: &[Migration] = migrations!["local_0001_jobs", "local_0002_runs"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_statements_are_whole() {
        for set in [SHARED, LOCAL] {
            assert!(set.is_sorted_by(|a, b| a.name < b.name));
            for migration in set {
                assert!(migration.sql.ends_with(";\n"), "{}", migration.name);
                assert!(!migration.sql.contains("TRIGGER"), "{}: D1 refuses triggers", migration.name);
                for statement in migration.statements() {
                    let bare = statement.lines().find(|line| !line.starts_with("--")).unwrap_or_default();
                    let known = ["CREATE ", "DROP TABLE ", "ALTER TABLE ", "UPDATE ", "INSERT "];
                    let begins = known.iter().any(|word| bare.starts_with(word));
                    assert!(begins, "{}: {statement}", migration.name);
                }
            }
        }
    }
}
