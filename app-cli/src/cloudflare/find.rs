//! Things at the account, by their names: ids are never guessed and never kept.

use burstflare_adapters_cloudflare::deployment::{Account, Call, Resource};

use super::Api;
use super::api::{Written, refused};
use crate::exit::{Exit, Failure};

/// More pages than any list of these has.
const PAGES: usize = 1000;

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// What we look for, with its id.
    There(String),
    /// Nothing.
    Missing,
    /// Something whose name differs by its capitals alone: it is somebody's, and would be mixed up with ours.
    Clash(String),
}

/// A zone: a domain whose names Cloudflare answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is active.
    pub active: bool,
}

/// Looks through all pages.
///
/// # Errors
/// When the list cannot be read, or does not end.
pub async fn find(api: &Api, account: Account<'_>, resource: &Resource) -> Result<Found, Failure> {
    let mut page = None;
    let mut clash = None;
    for _ in 0..PAGES {
        let what = format!("looking for the {} {}", resource.kind.title(), resource.name);
        let answer = api.read(&what, &resource.list(account, page.as_ref())).await?;
        let entries = resource.entries(&answer);
        let count = entries.len();
        for (name, id) in entries {
            if name == resource.name {
                return Ok(Found::There(id));
            }
            if name.eq_ignore_ascii_case(&resource.name) {
                clash = Some(name);
            }
        }
        let next = answer.next(count);
        // A cursor that leads to itself would go on forever.
        if next.is_none() || next == page {
            return Ok(clash.map_or(Found::Missing, Found::Clash));
        }
        page = next;
    }
    Err(Failure::new(Exit::Other, format!("the list of {}s does not end", resource.kind.title())))
}

/// Makes what is missing, exactly once: after a lost answer it looks by name before it tries again.
///
/// # Errors
/// When Cloudflare refuses, or does not recover.
pub(crate) async fn make(api: &Api, account: Account<'_>, resource: &Resource) -> Result<(), Failure> {
    let call = resource.create(account);
    let mut tried = 1;
    loop {
        let refusal = match api.write(&call, tried).await? {
            // Its id is read from the list by whoever needs it: one way to know it, not two.
            Written::Done(_) => return Ok(()),
            Written::Unknown => None,
            Written::Refused(refusal) => Some(refusal),
        };
        match (find(api, account, resource).await?, refusal) {
            (Found::There(_), _) => return Ok(()),
            (Found::Clash(name), _) => return Err(clash(resource, &name)),
            (Found::Missing, Some(refusal)) => {
                let what = format!("making the {} {}", resource.kind.title(), resource.name);
                return Err(refused(&what, &refusal));
            }
            (Found::Missing, None) => tried += 1,
        }
    }
}

/// The failure of a name that is taken in other capitals.
pub(crate) fn clash(resource: &Resource, name: &str) -> Failure {
    let kind = resource.kind.title();
    Failure::new(
        Exit::Conflict,
        format!("there is a {kind} `{name}`: its name differs from `{}` by capitals alone", resource.name),
    )
    .hint("Rename or remove it, or set another `name` in cloudflare.toml.")
}

/// The zone that a domain belongs to: the longest end of its name that is one.
///
/// # Errors
/// When zones cannot be read.
pub async fn zone_of(api: &Api, account: &str, domain: &str) -> Result<Option<Zone>, Failure> {
    let labels: Vec<&str> = domain.split('.').collect();
    for from in 0..labels.len().saturating_sub(1) {
        let name = labels[from..].join(".");
        let call = Call::get(&["zones"]).query("name", &name).query("account.id", account);
        let answer = api.read("looking for the zone", &call).await?;
        let zones = answer.result.as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(zone) = zones.iter().find(|zone| zone["name"] == name.as_str())
            && let Some(id) = zone["id"].as_str()
        {
            return Ok(Some(Zone { id: id.to_owned(), active: zone["status"] == "active", name }));
        }
    }
    Ok(None)
}
