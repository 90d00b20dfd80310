//! `flare cloudflare`: from a description in `cloudflare.toml` and keys in `.env` to a deployment.
//!
//! What a deployment consists of, and the calls that find and make it, are `burstflare_adapters_cloudflare::deployment`:
//! data, without the feature that brings a Worker. Here is who sends them ([`Api`]), in which order, and what people see.
//! Everything is found by its name before it is made, so a run that was cut off is simply run again.

mod api;
mod bootstrap;
mod database;
mod file;
mod find;
mod keys;
mod migrate;
mod secret;
mod settings;
mod wrangler;

pub use api::{Api, Written};
pub use bootstrap::bootstrap_code;
pub use database::RestDatabase;
pub use file::GeneratedFile;
pub use find::{Found, Zone, find, zone_of};
pub(crate) use find::{clash, make};
pub use keys::Keys;
pub(crate) use migrate::is_in_use;
pub use migrate::{Pending, apply, pending};
pub use secret::{MASTER_KEY, TURNSTILE_SECRET, master_key, put_secret, secrets};
pub(crate) use settings::local;
pub use settings::{Ids, Settings, Target};
pub use wrangler::{Tool, Wrangler};
