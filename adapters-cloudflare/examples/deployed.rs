//! Prints wrangler's file of a deployment as `flare cloudflare generate` would write it, with ids that nobody has:
//! `deployed MAIN IMAGE [object|class]`. `.ci/tools/dryrun` lets the real wrangler read it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for a script")]

use std::collections::BTreeMap;

use burstflare_adapters_cloudflare::deployment::{Deployment, Environment, Image, Policy, Previews, Site};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (main, image, policy) = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [main, image] | [main, image, "object"] => (main, image, Policy::Object),
        [main, image, "class"] => (main, image, Policy::Class),
        _ => {
            eprintln!("deployed MAIN IMAGE [object|class]");
            std::process::exit(2);
        }
    };
    let variables = [
        ("FLARE_ENVIRONMENT", "staging"),
        ("FLARE_ORIGIN", "https://flare.example.com"),
        ("FLARE_PREVIEW_DOMAIN", "example.net"),
        ("FLARE_REGISTRATION", "invite"),
    ];
    let deployment = Deployment {
        name: "burstflare-staging".to_owned(),
        environment: Environment::Staging,
        main: main.to_owned(),
        database: "00000000-0000-0000-0000-000000000000".to_owned(),
        cache: "0".repeat(32),
        migrations: None,
        policy,
        image: match image.contains('@') {
            true => Image::Digest(image.to_owned()),
            false => Image::Dockerfile(image.to_owned()),
        },
        site: Some(Site {
            account: "0".repeat(32),
            domain: "flare.example.com".to_owned(),
            previews: Some(Previews { domain: "example.net".to_owned(), zone: "example.net".to_owned() }),
        }),
        variables: variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
    };
    println!("{:#}", deployment.wrangler());
}
