//! The OpenAPI document.

use std::collections::BTreeSet;
use std::path::Path;

use burstflare_app_edge::{Access, endpoints, openapi};
use serde_json::Value;

fn document() -> Value {
    serde_json::from_slice(&openapi::text()).expect("JSON")
}

#[test]
fn the_committed_document_is_the_codes() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, openapi::text()).expect("written");
    }
    let committed = std::fs::read(&file).expect("openapi.json; make it with UPDATE_GOLDEN=1");
    assert!(committed == openapi::text(), "openapi.json is stale: run the tests with UPDATE_GOLDEN=1");
}

#[test]
fn every_endpoint_is_described_and_nothing_else() {
    let document = document();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            let item = item.as_object().expect("an item");
            item.keys().map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        })
        .collect();
    let served: BTreeSet<_> =
        endpoints().into_iter().map(|endpoint| (endpoint.method.to_string(), endpoint.path)).collect();
    assert_eq!(described, served);
    assert!(served.len() > 40, "{}", served.len());
}

#[test]
fn operations_say_what_they_take_and_answer() {
    let document = document();
    let mut ids = BTreeSet::new();
    for endpoint in endpoints() {
        let operation = &document["paths"][&endpoint.path][endpoint.method.as_str().to_lowercase()];
        let name = format!("{} {}", endpoint.method, endpoint.path);
        assert!(ids.insert(operation["operationId"].to_string()), "{name}: the operation's id is not unique");
        assert!(operation["summary"].is_string(), "{name} has no summary");
        let errors =
            &operation["responses"]["default"]["content"]["application/problem+json"]["schema"]["$ref"];
        assert_eq!(errors, "#/components/schemas/Problem", "{name}");
        let secured = operation["security"][0]["bearer"].is_array();
        assert_eq!(secured, matches!(endpoint.access, Access::Bearer(_)), "{name}");
        let named: BTreeSet<_> =
            endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let described: BTreeSet<_> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "path")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        assert_eq!(named, described, "{name}");
    }
}

#[test]
fn references_lead_somewhere() {
    fn walk(value: &Value, document: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    let pointer = reference.strip_prefix('#').expect("a local reference");
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                fields.values().for_each(|field| walk(field, document));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, document)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document);
}
