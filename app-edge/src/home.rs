//! The home page: what this is, the six lines to a first shell, and what this server offers.

use std::fmt::Write as _;

use burstflare_core::Registration;
use burstflare_ports::machine::{Enforcement, Isolation, RuntimeProfile};

use crate::config::EdgeConfig;

const PAGE: &str = include_str!("../assets/home.html");

/// The six lines: a heading, and the words after `flare`; `<…>` is what the reader fills in.
const STEPS: [(&str, &str); 6] = [
    ("Make an account", "auth register --email you@example.com"),
    ("Make a template", "template create node-dev"),
    ("Upload a version of this folder", "template upload <templateId> --version 1.0.0"),
    ("Promote it once it is built", "template promote <templateId> <versionId>"),
    ("Start a session", "session up sandbox --template <templateId>"),
    ("Get in", "ssh <sessionId>"),
];

/// The page as HTML.
pub(crate) fn page(config: &EdgeConfig, registration: Registration, runtime: &RuntimeProfile) -> String {
    let url = config.url();
    let values = [
        ("steps", steps(&url)),
        ("url", escape(&url)),
        ("version", escape(&config.version)),
        ("registration", registration.name().to_owned()),
        ("registration_note", registration_note(registration).to_owned()),
        ("runtime", escape(&runtime.name)),
        ("isolation_note", isolation_note(runtime).to_owned()),
        ("network", network(&runtime.network)),
        ("limits", limits(runtime)),
        ("warnings", warnings(runtime)),
    ];
    // One pass, so that a value that looks like a placeholder stays what it is.
    let mut page = String::with_capacity(PAGE.len() * 2);
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let (name, behind) = after.split_once("}}").unwrap_or((after, ""));
        if let Some((_, value)) = values.iter().find(|(known, _)| *known == name) {
            page.push_str(value);
        }
        rest = behind;
    }
    page.push_str(rest);
    page
}

fn steps(url: &str) -> String {
    let mut html = String::new();
    for (heading, words) in STEPS {
        let line = escape(&format!("flare {words} --url {url}"))
            .replace("&lt;", "<var>&lt;")
            .replace("&gt;", "&gt;</var>");
        // Writing to a String cannot fail.
        let _ = writeln!(
            html,
            "      <li><h3>{heading}</h3><div class=\"line\"><code>{line}</code>\
             <button type=\"button\" aria-label=\"Copy: {heading}\">Copy</button></div></li>"
        );
    }
    html
}

const fn registration_note(registration: Registration) -> &'static str {
    match registration {
        Registration::Open => "everybody who reaches this server may make an account",
        Registration::Invite => "an account needs an invite; add --code CODE to the first line",
        Registration::Closed => "nobody can make a new account",
    }
}

fn isolation_note(runtime: &RuntimeProfile) -> &'static str {
    match runtime.isolation {
        _ if runtime.name == "none" => "",
        Isolation::Sandbox => "each in namespaces of its own, without capabilities",
        Isolation::Container => "each in a container",
        Isolation::Process => "plain processes of the server's user: no protection",
    }
}

fn network(network: &str) -> String {
    match network {
        "proxy" => "through the server's egress proxy".to_owned(),
        "host" => "the host's own".to_owned(),
        "none" => "none".to_owned(),
        other => escape(other),
    }
}

fn limits(runtime: &RuntimeProfile) -> String {
    let mut html = String::new();
    for (name, held) in &runtime.limits {
        let (class, word) = match held {
            Enforcement::Enforced => ("enforced", "enforced"),
            Enforcement::Watched => ("watched", "watched"),
            Enforcement::None => ("none", "not held"),
        };
        let _ = writeln!(
            html,
            "        <li><span>{}</span><span class=\"{class}\">{word}</span></li>",
            escape(name)
        );
    }
    if html.is_empty() { "        <li><span>none</span><span></span></li>".to_owned() } else { html }
}

fn warnings(runtime: &RuntimeProfile) -> String {
    if runtime.warnings.is_empty() {
        return String::new();
    }
    let items: String = runtime.warnings.iter().map(|text| format!("<li>{}</li>", escape(text))).collect();
    format!("    <ul class=\"warnings\">{items}</ul>")
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_filled_and_nothing_is_inline() {
        let runtime = RuntimeProfile {
            name: "<b>{{url}}".to_owned(),
            isolation: Isolation::Process,
            network: "a\"b".to_owned(),
            limits: [("cpu".to_owned(), Enforcement::None)].into(),
            warnings: vec!["x < y".to_owned()],
        };
        let page = page(&EdgeConfig::dev(8787), Registration::Open, &runtime);
        assert!(page.contains("&lt;b&gt;{{url}}"), "values are escaped and not filled in again");
        assert_eq!(page.matches("{{").count(), 1);
        assert!(page.contains("x &lt; y") && page.contains("a&quot;b"));
        for forbidden in ["style=", "onclick", "<style", "javascript:", "http://fonts", "https://"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert_eq!(page.matches("<script").count(), 1);
    }
}
