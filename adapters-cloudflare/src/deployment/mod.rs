//! A deployment on Cloudflare, described once: what is bound to the Worker, under which names the code asks for it, what the
//! account has to hold, the calls of the REST API that find and make it, and the file that tells wrangler. Nothing here runs
//! in a Worker, and nothing needs one; nothing here sends anything either.

mod answer;
pub mod binding;
mod call;
mod resource;
mod wrangler;

use std::collections::BTreeMap;

pub use answer::{Answer, Page, Refusal};
pub use call::{Body, Call};
pub use resource::{Account, Kind, Resource};

/// What one deployment is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Name of the Worker, and the beginning of the names of everything that belongs to it.
    pub name: String,
    /// What it is for.
    pub environment: Environment,
    /// The Worker's first JavaScript file, from the folder of wrangler's file.
    pub main: String,
    /// The D1 database's id; any for a local one.
    pub database: String,
    /// The KV namespace's id; any for a local one.
    pub cache: String,
    /// The folder of migrations, from the folder of wrangler's file; none where wrangler does not apply them.
    pub migrations: Option<String>,
    /// How containers are chosen for objects.
    pub policy: Policy,
    /// The image of sessions.
    pub image: Image,
    /// Where people find it; `None` for a local one.
    pub site: Option<Site>,
    /// Plain variables of the Worker. Secrets are never among them.
    pub variables: BTreeMap<String, String>,
}

/// The names that a deployment answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The account's id.
    pub account: String,
    /// The custom domain of API and pages.
    pub domain: String,
    /// Below it live the previews, each on a host of its own.
    pub previews: Option<Previews>,
}

/// The domain of previews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previews {
    /// The domain.
    pub domain: String,
    /// The zone that it belongs to.
    pub zone: String,
}

/// What a deployment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// On this machine and on loopback, by `wrangler dev`. Cannot be deployed.
    Local,
    /// To try things out.
    Staging,
    /// For people.
    Production,
}

impl Environment {
    /// Its name, as in `FLARE_ENVIRONMENT`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

/// Who chooses a container's image, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The object, at each start, among the deployment's named images.
    Object,
    /// The deployment: one image for all objects of the class.
    Class,
}

/// Where the image of sessions comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// Built by wrangler from this Dockerfile, from the folder of wrangler's file.
    Dockerfile(String),
    /// In the account's registry, pinned by its digest.
    Digest(String),
}

impl Deployment {
    /// The queue of jobs. Every other name is the deployment's own, or begins with it.
    #[must_use]
    pub fn jobs(&self) -> String {
        format!("{}-jobs", self.name)
    }

    /// Where jobs go that were given up; the Worker knows it by the end of its name.
    #[must_use]
    pub fn dead_jobs(&self) -> String {
        format!("{}-dead", self.jobs())
    }
}
