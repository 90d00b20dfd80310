//! A deployment on Cloudflare, described once: what is bound to the Worker, under which names the code asks for it, and the
//! file that tells wrangler. Nothing here runs in a Worker, and nothing needs one.

pub mod binding;
mod wrangler;

use std::collections::BTreeMap;

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
    /// The folder of migrations, from the folder of wrangler's file.
    pub migrations: String,
    /// How containers are chosen for objects.
    pub policy: Policy,
    /// The image of sessions.
    pub image: Image,
    /// Plain variables of the Worker. Secrets are never among them.
    pub variables: BTreeMap<String, String>,
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
