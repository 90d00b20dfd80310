//! What a secret may be, and how many of them a workspace may have.

use burstflare_ports::record::SecretEntry;
use burstflare_ports::text::VariableName;
use burstflare_ports::wire::{SECRETS_TOTAL, is_reserved};

use super::plan::Plan;
use crate::error::{Error, Kind, Result};

/// Bytes of one value.
pub const VALUE_LIMIT: usize = 64 << 10;

/// Judges a value that somebody wants to set beside those that are there already.
///
/// # Errors
/// `reserved_name`, `invalid`, `too_large`, `quota_exceeded`; none of them quotes the value.
pub fn judge(name: &VariableName, value: &str, others: &[SecretEntry], plan: &Plan) -> Result<()> {
    if is_reserved(name.as_str()) {
        return Err(Error {
            field: Some("secret"),
            ..Error::new(
                Kind::Invalid,
                "reserved_name",
                format!("`{name}` is not for secrets: it says what runs and who the user is."),
                "Choose another name.",
            )
        });
    }
    if value.contains('\0') {
        return Err(Error::invalid("value", "A value holds no NUL bytes: no process could be given them."));
    }
    if value.len() > VALUE_LIMIT {
        return Err(Error::new(
            Kind::TooLarge,
            "too_large",
            format!("A secret's value has {VALUE_LIMIT} bytes at most."),
            "Keep large data in a file, and its key in a secret.",
        ));
    }
    let is_new = others.iter().all(|other| other.name != *name);
    if is_new && others.len() as u64 >= plan.secrets {
        return Err(Error::new(
            Kind::Limited,
            "quota_exceeded",
            format!("The workspace's plan allows {} secrets.", plan.secrets),
            "Delete one with `flare secret delete`.",
        ));
    }
    let rest = others.iter().filter(|other| other.name != *name);
    let total: u64 = rest.map(|other| other.bytes + other.name.as_str().len() as u64).sum();
    if total + (value.len() + name.as_str().len()) as u64 > SECRETS_TOTAL as u64 {
        return Err(Error::new(
            Kind::Limited,
            "quota_exceeded",
            format!("All secrets of a workspace have {SECRETS_TOTAL} bytes together at most."),
            "Processes are born with all of them: keep large data in files.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{LOCAL, TINY};
    use burstflare_ports::id::Id;
    use burstflare_ports::time::Timestamp;

    fn other(name: &str, bytes: u64) -> SecretEntry {
        let at = Timestamp::from_millis(0);
        SecretEntry {
            id: Id::new(at, [1; 10]),
            workspace: Id::new(at, [2; 10]),
            name: name.parse().expect("a name"),
            sealed: String::new(),
            bytes,
            changed_by: Id::new(at, [3; 10]),
            created_at: at,
            changed_at: at,
            revision: 1,
        }
    }

    fn code(name: &str, value: &str, others: &[SecretEntry], plan: &Plan) -> Option<&'static str> {
        judge(&name.parse().expect("a name"), value, others, plan).err().map(|error| {
            assert!(value.is_empty() || !error.message.contains(value), "{}", error.message);
            error.code
        })
    }

    #[test]
    fn each_rule() {
        let long = "x".repeat(VALUE_LIMIT + 1);
        assert_eq!(code("A", "any\ntext 'at' all", &[], &LOCAL), None);
        assert_eq!(code("A", &long[1..], &[], &LOCAL), None);
        assert_eq!(code("A", &long, &[], &LOCAL), Some("too_large"));
        assert_eq!(code("A", "a\0b", &[], &LOCAL), Some("invalid"));
        for name in ["PATH", "HOME", "LD_PRELOAD", "FLARE_TOKEN"] {
            assert_eq!(code(name, "x", &[], &LOCAL), Some("reserved_name"), "{name}");
        }
        let full: Vec<_> = (0..TINY.secrets).map(|number| other(&format!("N{number}"), 1)).collect();
        assert_eq!(code("A", "x", &full, &TINY), Some("quota_exceeded"));
        assert_eq!(code("N0", "x", &full, &TINY), None, "one that is there may change");
        let large: Vec<_> = (0..8).map(|number| other(&format!("N{number}"), VALUE_LIMIT as u64)).collect();
        assert_eq!(code("A", "x", &large, &LOCAL), Some("quota_exceeded"));
        assert_eq!(code("N0", "x", &large, &LOCAL), None);
    }
}
