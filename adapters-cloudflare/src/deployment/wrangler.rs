//! Wrangler's configuration file, out of the description. Cloudflare's documentation: "Wrangler configuration".

use serde_json::{Map, Value, json};

use super::{Deployment, Environment, Image, Policy, binding};

/// The newest date that the tools of `.ci/tools/package.json` know.
const COMPATIBILITY: &str = "2026-11-17";

impl Deployment {
    /// The file's content. No secret is in it, and for a local deployment no route either: with one, wrangler would change
    /// every request's Host.
    #[must_use]
    pub fn wrangler(&self) -> Value {
        let mut file = Map::new();
        let mut put = |name: &str, value: Value| {
            file.insert(name.to_owned(), value);
        };
        put("name", json!(self.name));
        put("main", json!(self.main));
        put("compatibility_date", json!(COMPATIBILITY));
        put("vars", json!(self.variables));
        let mut database = json!({
            "binding": binding::DATABASE, "database_name": self.name, "database_id": self.database,
        });
        if let Some(migrations) = &self.migrations {
            database["migrations_dir"] = json!(migrations);
        }
        put("d1_databases", json!([database]));
        put("kv_namespaces", json!([{ "binding": binding::CACHE, "id": self.cache }]));
        if let Some(site) = &self.site {
            put("account_id", json!(site.account));
            // Only under its own names: what answers elsewhere is refused by the Worker anyway.
            put("workers_dev", json!(false));
            put("preview_urls", json!(false));
            let own = json!({ "pattern": site.domain, "custom_domain": true });
            let previews = site.previews.iter().map(|previews| {
                json!({ "pattern": format!("*.{}/*", previews.domain), "zone_name": previews.zone })
            });
            put("routes", std::iter::once(own).chain(previews).collect());
        }
        put("r2_buckets", json!([{ "binding": binding::BLOBS, "bucket_name": self.name }]));
        put(
            "durable_objects",
            json!({ "bindings": [
                { "name": binding::MACHINES, "class_name": binding::MACHINE_CLASS },
                { "name": binding::WORKSPACES, "class_name": binding::WORKSPACE_CLASS },
            ] }),
        );
        // A job that was given up is looked at as one that failed for good, which the Worker knows by the queue's name.
        let (jobs, dead) = (self.jobs(), self.dead_jobs());
        put(
            "queues",
            json!({
                "producers": [{ "binding": binding::JOBS, "queue": jobs }],
                "consumers": [
                    {
                        "queue": jobs, "max_batch_size": 10, "max_batch_timeout": 0, "max_retries": 4,
                        "dead_letter_queue": dead,
                    },
                    { "queue": dead, "max_batch_size": 10, "max_batch_timeout": 0, "max_retries": 100 },
                ],
            }),
        );
        put(
            "workflows",
            json!([{
                "binding": binding::BUILDS,
                "name": format!("{}-builds", self.name),
                "class_name": binding::BUILD_CLASS,
            }]),
        );
        let rates = (1u32..).zip(binding::RATES).map(|(id, (name, limit, period))| {
            json!({
                "name": name, "namespace_id": id.to_string(), "simple": { "limit": limit, "period": period },
            })
        });
        put("ratelimits", rates.collect());
        // What waits in the outbox is delivered by the clock at the latest.
        put("triggers", json!({ "crons": ["* * * * *"] }));
        let container = format!("{}-machines", self.name);
        match self.policy {
            Policy::Object => {
                put(
                    "exports",
                    json!({
                        binding::MACHINE_CLASS: {
                            "type": "durable-object", "storage": "sqlite", "container": container,
                        },
                        binding::WORKSPACE_CLASS: { "type": "durable-object", "storage": "sqlite" },
                    }),
                );
                let image = match &self.image {
                    Image::Dockerfile(path) => json!({ "dockerfile": path }),
                    Image::Digest(digest) => json!({ "image": digest }),
                };
                put(
                    "containers",
                    json!([{
                        "name": container,
                        "scheduling_policy": "durable_object",
                        "images": { binding::SESSION_IMAGE: image },
                    }]),
                );
            }
            Policy::Class => {
                put(
                    "migrations",
                    json!([{
                        "tag": "v1",
                        "new_sqlite_classes": [binding::MACHINE_CLASS, binding::WORKSPACE_CLASS],
                    }]),
                );
                let (Image::Dockerfile(image) | Image::Digest(image)) = &self.image;
                put(
                    "containers",
                    json!([{
                        "name": container,
                        "class_name": binding::MACHINE_CLASS,
                        "image": image,
                        "max_instances": 100,
                    }]),
                );
            }
        }
        if self.environment != Environment::Local {
            put("observability", json!({ "enabled": true }));
        }
        Value::Object(file)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Previews, Site};
    use super::*;

    fn deployment(policy: Policy) -> Deployment {
        Deployment {
            name: "flare".to_owned(),
            environment: Environment::Local,
            main: "index.js".to_owned(),
            database: "id".to_owned(),
            cache: "space".to_owned(),
            migrations: Some("migrations".to_owned()),
            policy,
            image: Image::Dockerfile("image/Dockerfile".to_owned()),
            site: None,
            variables: BTreeMap::new(),
        }
    }

    #[test]
    fn each_policy_names_the_image_in_its_own_way() {
        let object = deployment(Policy::Object).wrangler();
        assert_eq!(object["containers"][0]["images"]["session"]["dockerfile"], "image/Dockerfile");
        assert_eq!(object["exports"]["Machine"]["container"], object["containers"][0]["name"]);
        let class = deployment(Policy::Class).wrangler();
        assert_eq!(class["containers"][0]["image"], "image/Dockerfile");
        assert_eq!(class["migrations"][0]["new_sqlite_classes"][0], class["containers"][0]["class_name"]);
        // Every class that is bound is declared, in the way of the policy.
        for bound in object["durable_objects"]["bindings"].as_array().unwrap() {
            let name = &bound["class_name"];
            assert_eq!(object["exports"][name.as_str().unwrap()]["storage"], "sqlite", "{name}");
            assert!(
                class["migrations"][0]["new_sqlite_classes"].as_array().unwrap().contains(name),
                "{name}"
            );
        }
        // wrangler takes one of the two.
        assert!(object.get("migrations").is_none() && class.get("exports").is_none());
    }

    #[test]
    fn a_job_that_is_given_up_goes_to_a_queue_that_is_consumed() {
        let queues = &deployment(Policy::Object).wrangler()["queues"];
        let consumers = queues["consumers"].as_array().unwrap();
        assert_eq!(consumers[0]["queue"], queues["producers"][0]["queue"]);
        assert_eq!(consumers[1]["queue"], consumers[0]["dead_letter_queue"]);
        // The Worker tells them apart by this.
        assert!(consumers[1]["queue"].as_str().unwrap().ends_with("-dead"));
    }

    #[test]
    fn a_local_file_has_no_routes() {
        assert!(deployment(Policy::Object).wrangler().get("routes").is_none());
    }

    #[test]
    fn a_deployed_one_answers_to_its_own_names_alone() {
        let site = Site {
            account: "0".repeat(32),
            domain: "flare.example.com".to_owned(),
            previews: Some(Previews { domain: "p.example.net".to_owned(), zone: "example.net".to_owned() }),
        };
        let file = Deployment { site: Some(site), ..deployment(Policy::Object) }.wrangler();
        let own = json!({ "pattern": "flare.example.com", "custom_domain": true });
        let previews = json!({ "pattern": "*.p.example.net/*", "zone_name": "example.net" });
        assert_eq!(file["routes"], json!([own, previews]));
        assert_eq!(file["workers_dev"], false);
    }
}
