//! `cloudflare.toml`: what is to be deployed. It holds no secret and belongs under version control.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burstflare_adapters_cloudflare::deployment::{Deployment, Environment, Image, Policy, Previews, Site};
use burstflare_app_edge::{Origin, PreviewDomain};
use serde::Deserialize;

use super::{GeneratedFile, Keys, Zone};
use crate::exit::{Exit, Failure};
use crate::place;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default = "default_name")]
    name: String,
    #[serde(default = "default_worker")]
    worker: PathBuf,
    image: String,
    #[serde(default)]
    policy: Choice,
    staging: Option<Place>,
    production: Option<Place>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    #[default]
    Object,
    Class,
}

/// One environment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    domain: String,
    preview_domain: Option<String>,
    #[serde(default)]
    registration: Admission,
    plan: Option<String>,
    #[serde(default)]
    internet: Internet,
    location: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Admission {
    #[default]
    Invite,
    Closed,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Internet {
    #[default]
    Open,
    Closed,
}

fn default_name() -> String {
    "burstflare".to_owned()
}

fn default_worker() -> PathBuf {
    PathBuf::from("app-edge/worker")
}

/// What is needed to see what a file looks like.
const EXAMPLE: &str = "It begins with `image = \"image/Dockerfile\"`, then `[production]`, `domain = \"flare.example.com\"`; the README's chapter \"Deploy to Cloudflare\" has all of it.";

/// The description of all environments.
#[derive(Debug)]
pub struct Settings {
    document: Document,
    folder: PathBuf,
}

/// One environment that can be deployed.
#[derive(Debug)]
pub struct Target {
    /// Which one.
    pub environment: Environment,
    /// Name of the Worker, and the beginning of every other name.
    pub name: String,
    /// The custom domain.
    pub domain: String,
    /// The domain of previews.
    pub preview_domain: Option<String>,
    /// Near to whom data lies.
    pub location: Option<String>,
    /// The file for wrangler.
    pub file: GeneratedFile,
    /// The folder of the Worker: its entry, and `build` below.
    pub worker: PathBuf,
    entry: String,
    image: String,
    policy: Choice,
    place: Place,
}

impl Settings {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or is not sound; the line is named.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let path = place::absolute(path)?;
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot read {}: {error}", path.display())).hint(EXAMPLE)
        })?;
        let document = toml::from_str(&text)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())).hint(EXAMPLE))?;
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { document, folder })
    }

    /// The environment that is asked for; without a word the only one that is described.
    ///
    /// # Errors
    /// When it is not described, is not sound, or is `local`.
    pub fn target(&self, wanted: Option<&str>) -> Result<Target, Failure> {
        let described = [
            (Environment::Staging, &self.document.staging),
            (Environment::Production, &self.document.production),
        ];
        let present: BTreeMap<_, _> = described
            .into_iter()
            .filter_map(|(environment, place)| Some((environment.name(), (environment, place.as_ref()?))))
            .collect();
        let (environment, place) = match wanted {
            Some("local") => return Err(local()),
            Some(name) => *present.get(name).ok_or_else(|| {
                let there: Vec<_> = present.keys().copied().collect();
                Failure::usage(format!("cloudflare.toml describes no environment `{name}`"))
                    .hint(format!("It describes: {}.", there.join(", ")))
            })?,
            None if present.len() == 1 => *present.values().next().ok_or_else(none)?,
            None if present.is_empty() => return Err(none()),
            None => {
                return Err(Failure::usage("there is more than one environment")
                    .hint("Say which one: `--env staging` or `--env production`."));
            }
        };
        let document = &self.document;
        let slug = |text: &str| {
            (1..=40).contains(&text.len())
                && text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !text.ends_with('-')
        };
        if !slug(&document.name) {
            return Err(Failure::usage(format!("`{}` cannot be the name of a deployment", document.name))
                .hint("Take 1 to 40 of a-z, 0-9 and -, a letter first."));
        }
        domains(place)?;
        let known = ["wnam", "enam", "weur", "eeur", "apac", "oc"];
        if let Some(location) = place.location.as_deref().filter(|location| !known.contains(location)) {
            return Err(Failure::usage(format!("`{location}` is no location of Cloudflare"))
                .hint(format!("There are: {}.", known.join(", "))));
        }
        let entry = document.worker.join("entry.mjs");
        Ok(Target {
            environment,
            name: format!("{}-{}", document.name, environment.name()),
            domain: place.domain.to_ascii_lowercase(),
            preview_domain: place.preview_domain.as_ref().map(|domain| domain.to_ascii_lowercase()),
            location: place.location.clone(),
            file: GeneratedFile::new(self.folder.join(format!("wrangler.{}.jsonc", environment.name()))),
            worker: self.folder.join(&document.worker),
            entry: entry.display().to_string(),
            image: document.image.clone(),
            policy: document.policy,
            place: place.clone(),
        })
    }
}

/// What a deployment of this machine is answered.
pub(crate) fn local() -> Failure {
    Failure::usage("the environment `local` is for this machine and cannot be deployed").hint(
        "Describe `[staging]` or `[production]` in cloudflare.toml and say `--env staging`; `.ci/cloudflare up` runs the local one.",
    )
}

fn none() -> Failure {
    Failure::usage("cloudflare.toml describes no environment").hint(EXAMPLE)
}

/// The domains can be what they are said to be, and cannot share cookies.
fn domains(place: &Place) -> Result<(), Failure> {
    let origin = Origin::parse(&format!("https://{}", place.domain))
        .ok()
        .filter(|origin| origin.port().is_none() && origin.host().contains('.'))
        .filter(|origin| !origin.host().starts_with('['))
        .ok_or_else(|| {
            Failure::usage(format!("`{}` is no domain", place.domain))
                .hint("A domain is a name like flare.example.com, without https:// and port.")
        })?;
    let Some(text) = &place.preview_domain else { return Ok(()) };
    let domain: Result<PreviewDomain, _> = text.parse();
    domain
        .and_then(|domain| domain.apart_from(&origin))
        .map(drop)
        .map_err(|error| Failure::usage(format!("preview_domain `{text}`: {error}")))
}

/// What was found at the account.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    /// The D1 database's.
    pub database: String,
    /// The KV namespace's.
    pub cache: String,
}

impl Target {
    /// The whole description, with what was found at the account.
    #[must_use]
    pub fn deployment(&self, keys: &Keys, ids: Ids, previews: Option<&Zone>) -> Deployment {
        let previews = self.preview_domain.as_ref().zip(previews);
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        let mut put = |name: &str, value: &str| variables.insert(name.to_owned(), value.to_owned());
        put("FLARE_ENVIRONMENT", self.environment.name());
        put("FLARE_ORIGIN", &format!("https://{}", self.domain));
        put(
            "FLARE_REGISTRATION",
            match self.place.registration {
                Admission::Invite => "invite",
                Admission::Closed => "closed",
            },
        );
        put(
            "FLARE_INTERNET",
            match self.place.internet {
                Internet::Open => "open",
                Internet::Closed => "closed",
            },
        );
        if let Some(plan) = &self.place.plan {
            put("FLARE_PLAN", plan);
        }
        if let Some((domain, _)) = previews {
            put("FLARE_PREVIEW_DOMAIN", domain);
        }
        if let Some((site, _)) = &keys.turnstile {
            put("FLARE_TURNSTILE_SITE_KEY", site);
        }
        Deployment {
            name: self.name.clone(),
            environment: self.environment,
            main: self.entry.clone(),
            database: ids.database,
            cache: ids.cache,
            migrations: None,
            policy: match self.policy {
                Choice::Object => Policy::Object,
                Choice::Class => Policy::Class,
            },
            image: match self.image.contains('@') {
                true => Image::Digest(self.image.clone()),
                false => Image::Dockerfile(self.image.clone()),
            },
            site: Some(Site {
                account: keys.account.clone(),
                domain: self.domain.clone(),
                previews: previews
                    .map(|(domain, zone)| Previews { domain: domain.clone(), zone: zone.name.clone() }),
            }),
            variables,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str, wanted: Option<&str>) -> Result<Target, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cloudflare.toml");
        std::fs::write(&path, text).unwrap();
        Settings::read(&path)?.target(wanted)
    }

    #[test]
    fn the_only_environment_needs_no_word() {
        let text = "image = \"i/Dockerfile\"\n[staging]\ndomain = \"F.example.com\"\n";
        let found = target(text, None).unwrap();
        assert_eq!((found.name.as_str(), found.domain.as_str()), ("burstflare-staging", "f.example.com"));
        assert!(target(text, Some("production")).unwrap_err().hint.unwrap().contains("staging"));
        let both = format!("{text}[production]\ndomain = \"g.example.com\"\n");
        assert!(target(&both, None).is_err());
        assert_eq!(target(&both, Some("production")).unwrap().name, "burstflare-production");
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        let with = |line: &str| {
            target(&format!("image = \"i\"\n[staging]\ndomain = \"f.example.com\"\n{line}\n"), None)
        };
        with("").unwrap();
        for bad in [
            "preview_domain = \"p.f.example.com\"",
            "preview_domain = \"nodots\"",
            "registration = \"open\"",
            "location = \"moon\"",
            "internet = \"maybe\"",
            "token = \"x\"",
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
        for bad in ["https://f.example.com", "localhost", "f.example.com:1", ""] {
            assert!(
                target(&format!("image = \"i\"\n[staging]\ndomain = \"{bad}\"\n"), None).is_err(),
                "{bad}"
            );
        }
        assert!(target("image = \"i\"\n", Some("local")).unwrap_err().message.contains("cannot be deployed"));
    }
}
