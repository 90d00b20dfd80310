//! Which room may know which (DESIGN.md, section 2).

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Package, and the packages of this workspace that it may depend on.
const RULES: [(&str, &[&str]); 8] = [
    ("burstflare-ports", &[]),
    ("burstflare-core", &["burstflare-ports"]),
    ("burstflare-migrations", &["burstflare-ports"]),
    ("burstflare-adapters-local", &["burstflare-ports", "burstflare-migrations"]),
    ("burstflare-adapters-cloudflare", &["burstflare-ports", "burstflare-migrations"]),
    ("burstflare-agent", &["burstflare-ports"]),
    ("burstflare-app-edge", &["burstflare-core", "burstflare-ports"]),
    (
        "flare",
        &[
            "burstflare-app-edge",
            "burstflare-adapters-local",
            // What describes a deployment: without the feature that brings the Worker, as the last test here says.
            "burstflare-adapters-cloudflare",
            "burstflare-migrations",
            "burstflare-agent",
            "burstflare-core",
            "burstflare-ports",
        ],
    ),
];
/// What a feature alone may bring: package, dependency, feature.
const BY_FEATURE: [(&str, &str, &str); 4] = [
    ("burstflare-app-edge", "burstflare-adapters-cloudflare", "worker"),
    ("burstflare-app-edge", "burstflare-adapters-local", "harness"),
    ("burstflare-app-edge", "burstflare-migrations", "harness"),
    ("burstflare-app-edge", "burstflare-migrations", "worker"),
];

fn cargo(words: &[&str]) -> Vec<u8> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(words)
        .args(["--offline", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn packages() -> BTreeMap<String, Value> {
    let metadata: Value =
        serde_json::from_slice(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages").clone();
    packages
        .into_iter()
        .map(|package| (package["name"].as_str().expect("a name").to_owned(), package))
        .collect()
}

#[test]
fn dependencies_point_the_way_they_should() {
    let packages = packages();
    for (name, package) in &packages {
        let Some((_, allowed)) = RULES.iter().find(|(rule, _)| rule == name) else {
            // Tools and test hosts of a room live below it and may know what they test.
            assert!(!package["manifest_path"].as_str().is_some_and(|path| path.ends_with("/src/Cargo.toml")));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let on = dependency["name"].as_str().expect("a name");
            // Tests may look further than the code they test.
            if dependency["kind"] == "dev" || !packages.contains_key(on) {
                continue;
            }
            let by_feature = BY_FEATURE.iter().any(|(from, to, feature)| {
                from == name
                    && *to == on
                    && dependency["optional"] == true
                    && package["features"]["default"]
                        .as_array()
                        .is_none_or(|on| !on.contains(&Value::from(*feature)))
            });
            assert!(allowed.contains(&on) || by_feature, "{name} must not depend on {on}");
        }
    }
    for (name, _) in RULES {
        assert!(packages.contains_key(name), "{name} is gone: change the rules, too");
    }
}

#[test]
fn core_and_ports_know_no_technology() {
    for package in ["burstflare-core", "burstflare-ports"] {
        let tree = cargo(&["tree", "--package", package, "--edges", "normal", "--prefix", "none"]);
        let tree = String::from_utf8_lossy(&tree);
        for technology in ["tokio", "hyper", "axum", "sqlx", "worker", "libc-print", "rustix", "reqwest"] {
            assert!(!names(&tree).any(|name| name == technology), "{package} brings {technology}");
        }
    }
}

#[test]
fn the_program_brings_nothing_of_the_worker() {
    let tree = cargo(&["tree", "--package", "flare", "--edges", "normal", "--prefix", "none"]);
    let tree = String::from_utf8_lossy(&tree);
    for foreign in ["worker", "worker-sys", "wasm-bindgen", "aws-lc-rs", "aws-lc-sys", "openssl-sys"] {
        assert!(!names(&tree).any(|name| name == foreign), "the program brings {foreign}");
    }
}

fn names(tree: &str) -> impl Iterator<Item = &str> {
    tree.lines().filter_map(|line| line.split(' ').next())
}
