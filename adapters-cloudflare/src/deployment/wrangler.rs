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
        put(
            "d1_databases",
            json!([{
                "binding": binding::DATABASE,
                "database_name": self.name,
                "database_id": self.database,
                "migrations_dir": self.migrations,
            }]),
        );
        put("r2_buckets", json!([{ "binding": binding::BLOBS, "bucket_name": self.name }]));
        put(
            "durable_objects",
            json!({ "bindings": [
                { "name": binding::MACHINES, "class_name": binding::MACHINE_CLASS },
                { "name": binding::WORKSPACES, "class_name": binding::WORKSPACE_CLASS },
            ] }),
        );
        let jobs = format!("{}-jobs", self.name);
        // A job that was given up is looked at as one that failed for good, which the Worker knows by the queue's name.
        let dead = format!("{jobs}-dead");
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

    use super::*;

    fn deployment(policy: Policy) -> Deployment {
        Deployment {
            name: "flare".to_owned(),
            environment: Environment::Local,
            main: "index.js".to_owned(),
            database: "id".to_owned(),
            migrations: "migrations".to_owned(),
            policy,
            image: Image::Dockerfile("image/Dockerfile".to_owned()),
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
}
