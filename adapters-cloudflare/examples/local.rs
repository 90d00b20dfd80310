//! Prints wrangler's file of the local stack: `local NAME PORT MAIN IMAGE [object|class]`. `.ci/cloudflare` writes it down.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for a script")]

use std::collections::BTreeMap;

use burstflare_adapters_cloudflare::deployment::{Deployment, Environment, Image, Policy};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (name, port, main, image, policy) = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [name, port, main, image] | [name, port, main, image, "object"] => {
            (name, port, main, image, Policy::Object)
        }
        [name, port, main, image, "class"] => (name, port, main, image, Policy::Class),
        _ => {
            eprintln!("local NAME PORT MAIN IMAGE [object|class]");
            std::process::exit(2);
        }
    };
    // What `flare dev` allows on this machine, and nothing that would be wrong on another one.
    let variables = [
        ("FLARE_ENVIRONMENT", "local"),
        ("FLARE_PORT", port),
        ("FLARE_REGISTRATION", "open"),
        ("FLARE_PLAN", "local"),
    ];
    let deployment = Deployment {
        name: name.to_owned(),
        environment: Environment::Local,
        main: main.to_owned(),
        database: "00000000-0000-0000-0000-000000000000".to_owned(),
        cache: "cache".to_owned(),
        migrations: Some("migrations".to_owned()),
        policy,
        image: Image::Dockerfile(image.to_owned()),
        site: None,
        variables: variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
    };
    println!("{:#}", deployment.wrangler());
}
