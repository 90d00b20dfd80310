//! What a deployment needs at the account before it is deployed: how each thing is found by its name, and made. Workflow,
//! Durable Objects, containers, rate limits, routes and the clock come with wrangler's file.

use serde_json::{Value, json};

use super::{Answer, Call, Deployment, Page};

/// A thing at the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What it is.
    pub kind: Kind,
    /// Its name: all that a deployment knows of it beforehand.
    pub name: String,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A D1 database.
    Database,
    /// A KV namespace.
    Namespace,
    /// An R2 bucket.
    Bucket,
    /// A queue.
    Queue,
    /// The Worker itself: an empty one at first, for its secrets to belong to.
    Worker,
    /// A DNS record of a zone with this id: all names below a domain lead to Cloudflare, whose routes take them.
    Wildcard {
        /// The zone's id.
        zone: String,
    },
}

/// An account, whose things are called for.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// Its id.
    pub id: &'a str,
    /// Near to whom data lies (`weur`, `enam`, …), where that is wanted.
    pub location: Option<&'a str>,
}

/// What an empty Worker answers to everybody.
const EMPTY: &str = "export default { fetch: () => new Response(\"not deployed yet\", { status: 503 }) };\n";

impl Kind {
    /// What it is called.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self {
            Self::Database => "D1 database",
            Self::Namespace => "KV namespace",
            Self::Bucket => "R2 bucket",
            Self::Queue => "queue",
            Self::Worker => "Worker",
            Self::Wildcard { .. } => "DNS record",
        }
    }
}

impl Deployment {
    /// What the account has to hold, in the order of making. DNS is not among it: see [`Resource::wildcard`].
    #[must_use]
    pub fn resources(&self) -> Vec<Resource> {
        [
            (Kind::Database, self.name.clone()),
            (Kind::Namespace, self.name.clone()),
            (Kind::Bucket, self.name.clone()),
            (Kind::Queue, self.dead_jobs()),
            (Kind::Queue, self.jobs()),
            (Kind::Worker, self.name.clone()),
        ]
        .into_iter()
        .map(|(kind, name)| Resource { kind, name })
        .collect()
    }
}

impl Resource {
    /// The record of all names below a domain of this zone.
    #[must_use]
    pub fn wildcard(domain: &str, zone: &str) -> Self {
        Self { kind: Kind::Wildcard { zone: zone.to_owned() }, name: format!("*.{domain}") }
    }

    /// Lists what it may be among.
    #[must_use]
    pub fn list(&self, account: Account<'_>, page: Option<&Page>) -> Call {
        let call = match &self.kind {
            Kind::Database => Call::get(&["accounts", account.id, "d1", "database"]).query("per_page", "100"),
            Kind::Namespace => {
                Call::get(&["accounts", account.id, "storage", "kv", "namespaces"]).query("per_page", "100")
            }
            Kind::Bucket => Call::get(&["accounts", account.id, "r2", "buckets"]).query("per_page", "100"),
            Kind::Queue => Call::get(&["accounts", account.id, "queues"]).query("per_page", "100"),
            Kind::Worker => Call::get(&["accounts", account.id, "workers", "scripts"]),
            Kind::Wildcard { zone } => {
                Call::get(&["zones", zone, "dns_records"]).query("name", &self.name).query("per_page", "100")
            }
        };
        match page {
            None => call,
            Some(Page::Number(number)) => call.query("page", &number.to_string()),
            Some(Page::Cursor(cursor)) => call.query("cursor", cursor),
        }
    }

    /// Name and id of everything that the page of a list holds.
    #[must_use]
    pub fn entries(&self, page: &Answer) -> Vec<(String, String)> {
        let (list, name, id) = match &self.kind {
            Kind::Database => (&page.result, "name", "uuid"),
            Kind::Namespace => (&page.result, "title", "id"),
            Kind::Bucket => (&page.result["buckets"], "name", "name"),
            Kind::Queue => (&page.result, "queue_name", "queue_id"),
            Kind::Worker => (&page.result, "id", "id"),
            Kind::Wildcard { .. } => (&page.result, "name", "id"),
        };
        let text = |entry: &Value, name: &str| entry[name].as_str().map(str::to_owned);
        let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
        entries.iter().filter_map(|entry| Some((text(entry, name)?, text(entry, id)?))).collect()
    }

    /// Makes it.
    #[must_use]
    pub fn create(&self, account: Account<'_>) -> Call {
        let mut document = json!({});
        match &self.kind {
            Kind::Database => {
                document["name"] = json!(self.name);
                if let Some(location) = account.location {
                    document["primary_location_hint"] = json!(location);
                }
                Call::post(&["accounts", account.id, "d1", "database"], &document)
            }
            Kind::Namespace => {
                document["title"] = json!(self.name);
                Call::post(&["accounts", account.id, "storage", "kv", "namespaces"], &document)
            }
            Kind::Bucket => {
                document["name"] = json!(self.name);
                if let Some(location) = account.location {
                    document["locationHint"] = json!(location);
                }
                Call::post(&["accounts", account.id, "r2", "buckets"], &document)
            }
            Kind::Queue => {
                document["queue_name"] = json!(self.name);
                Call::post(&["accounts", account.id, "queues"], &document)
            }
            Kind::Worker => empty_worker(account.id, &self.name),
            Kind::Wildcard { zone } => {
                // An address that leads nowhere (RFC 6666): Cloudflare's proxy stands before it, and the route takes all.
                document = json!({
                    "type": "AAAA", "name": self.name, "content": "100::", "proxied": true, "ttl": 1,
                    "comment": "previews of BurstFlare",
                });
                Call::post(&["zones", zone, "dns_records"], &document)
            }
        }
    }
}

/// A multipart form (RFC 7578), as uploads of Workers are.
fn empty_worker(account: &str, name: &str) -> Call {
    let metadata = json!({ "main_module": "empty.mjs", "compatibility_date": "2026-11-17" });
    let form = format!(
        "--burstflare\r\nContent-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json\r\n\r\n{metadata}\r\n\
         --burstflare\r\nContent-Disposition: form-data; name=\"empty.mjs\"; filename=\"empty.mjs\"\r\n\
         Content-Type: application/javascript+module\r\n\r\n{EMPTY}\r\n--burstflare--\r\n"
    );
    Call::new("PUT", &["accounts", account, "workers", "scripts", name])
        .body("multipart/form-data; boundary=burstflare", form)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Account<'static> = Account { id: "acc", location: Some("weur") };

    fn resource(kind: Kind) -> Resource {
        Resource { kind, name: "n".to_owned() }
    }

    #[test]
    fn each_kind_is_found_where_the_api_has_it() {
        let page = |result: Value| {
            let body = json!({ "success": true, "errors": [], "messages": [], "result": result });
            Answer::read(200, body.to_string().as_bytes()).unwrap()
        };
        let found = vec![("n".to_owned(), "7".to_owned())];
        let queues = page(json!([{ "queue_name": "n", "queue_id": "7" }, { "odd": 1 }]));
        assert_eq!(resource(Kind::Queue).entries(&queues), found);
        assert_eq!(resource(Kind::Database).entries(&page(json!([{ "name": "n", "uuid": "7" }]))), found);
        assert_eq!(resource(Kind::Namespace).entries(&page(json!([{ "title": "n", "id": "7" }]))), found);
        let buckets = page(json!({ "buckets": [{ "name": "n" }] }));
        assert_eq!(resource(Kind::Bucket).entries(&buckets), [("n".to_owned(), "n".to_owned())]);
        assert!(resource(Kind::Worker).entries(&page(Value::Null)).is_empty());
    }

    #[test]
    fn pages_are_asked_for() {
        let list = |page: &Page| resource(Kind::Bucket).list(ACCOUNT, Some(page)).path;
        assert!(list(&Page::Cursor("a=".to_owned())).ends_with("/r2/buckets?per_page=100&cursor=a%3D"));
        assert!(list(&Page::Number(2)).ends_with("&page=2"));
    }

    #[test]
    fn locations_are_hints_where_data_lies() {
        let sent = |kind: Kind| {
            String::from_utf8(resource(kind).create(ACCOUNT).body.map(|body| body.bytes).unwrap_or_default())
                .unwrap()
        };
        assert!(sent(Kind::Database).contains(r#""primary_location_hint":"weur""#));
        assert!(sent(Kind::Bucket).contains(r#""locationHint":"weur""#));
        assert!(!sent(Kind::Queue).contains("weur"));
        assert!(sent(Kind::Worker).ends_with("--burstflare--\r\n"));
        let wildcard = Resource::wildcard("p.example.net", "z").create(ACCOUNT);
        assert_eq!(wildcard.path, "/zones/z/dns_records");
    }
}
