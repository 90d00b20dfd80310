use burstflare_ports::machine::Limits;
use burstflare_ports::record::{PortSpec, Visibility};
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<VersionSpec, ManifestError> {
    parse(text, &ManifestLimits::default())
}

fn good(text: &str) -> VersionSpec {
    read(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// The only problem: line, key and a part of its sentence.
#[track_caller]
fn refused(text: &str, line: usize, key: &str, part: &str) {
    let error = read(text).expect_err(text);
    let [problem] = error.problems() else { panic!("several problems:\n{error}") };
    assert_eq!((problem.line, problem.key.as_deref()), (Some(line), Some(key)), "{error}");
    assert!(problem.sentence.contains(part), "{error}");
}

const WHOLE: &str = r#"base = "rust"                          # a name in the deployment's catalogue
setup = ["cargo fetch", "make deps"]
on_start = "make serve &"
sleep_after = "2h"
persist = ["/workspace/data", "/home/flare"]
[env]
RUST_LOG = "info"
PATH = "/workspace/bin:/usr/bin"
[[ports]]
port = 3000
name = "web"
visibility = "public"
[[ports]]
port = 3001
[resources]
cpu = 0.5
memory = "512MiB"
disk = "4GB"
"#;

#[test]
fn every_key_is_read() {
    let spec = good(WHOLE);
    assert_eq!(spec.base, "rust");
    assert_eq!(spec.setup, ["cargo fetch", "make deps"]);
    assert_eq!(spec.on_start.as_deref(), Some("make serve &"));
    assert_eq!(spec.sleep_after_s, Some(7200));
    assert_eq!(spec.persist, ["/workspace/data", "/home/flare"]);
    assert_eq!(spec.env.len(), 2);
    assert_eq!(spec.env["RUST_LOG"], "info");
    let web = PortSpec { port: 3000, name: Some("web".to_owned()), visibility: Visibility::Public };
    assert_eq!(spec.ports, [web, PortSpec { port: 3001, name: None, visibility: Visibility::Private }]);
    let limits = Limits { cpu_millis: 500, memory: 512 << 20, disk: 4_000_000_000, pids: 512 };
    assert_eq!(spec.limits, limits);
    let later: Vec<_> = spec.not_supported_yet.iter().map(|line| line.split('`').nth(1)).collect();
    assert_eq!(later, [Some("persist")]);
}

#[test]
fn nothing_said_is_the_default() {
    for text in ["", "\n", "# nothing\n", "\u{feff}", "[env]\n[resources]\n", "ports = []\n"] {
        let spec = good(text);
        let expected = VersionSpec {
            base: "default".to_owned(),
            setup: Vec::new(),
            on_start: None,
            sleep_after_s: Some(1800),
            persist: vec!["/workspace".to_owned(), "/home/flare".to_owned()],
            env: std::collections::BTreeMap::new(),
            ports: Vec::new(),
            limits: Limits { cpu_millis: 1000, memory: 1 << 30, disk: 4 << 30, pids: 512 },
            not_supported_yet: Vec::new(),
        };
        assert_eq!(spec, expected, "{text:?}");
    }
    let spec = good("persist = ['/home/flare', '/workspace']");
    assert_eq!((spec.persist, spec.not_supported_yet.len()), (ROOTS.map(str::to_owned).to_vec(), 0));
}

#[test]
fn windows_files_are_read() {
    let windows = format!("\u{feff}{}", WHOLE.replace('\n', "\r\n"));
    assert_eq!(good(&windows), good(WHOLE));
    assert_eq!(good("setup = ['''\r\na\r\nb''']").setup, ["a\nb"]);
    refused("\u{feff}base = 'x'\r\n\r\nstup = []\r\n", 3, "stup", "did you mean `setup`?");
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let of = |bytes: &[u8]| parse_bytes(bytes, &ManifestLimits::default()).map_err(|error| error.to_string());
    assert_eq!(of(b"base = 'x'").map(|spec| spec.base), Ok("x".to_owned()));
    let sentence = "flare.toml line 2: this is not UTF-8; save the file as UTF-8";
    assert_eq!(of(b"base = 'x'\n# \xff\n"), Err(sentence.to_owned()));
    let utf16: Vec<u8> = "\u{feff}base = 'x'".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(of(&utf16), Err("flare.toml: the file is UTF-16; save it as UTF-8".to_owned()));
}

#[test]
fn mistakes_of_syntax_have_a_line() {
    for (text, line) in
        [("base = 'x'\nbase = 'y'", 2), ("\n\nbase = \n", 3), ("[env\n", 1), ("a = 1\n\nb = [1,\n", 3)]
    {
        let error = read(text).expect_err(text);
        assert_eq!(error.problems()[0].line, Some(line), "{text:?}: {error}");
        assert_eq!(error.problems()[0].key, None);
        assert!(!error.problems()[0].sentence.is_empty());
    }
}

#[test]
fn unknown_keys_are_refused_with_a_proposal() {
    refused("stup = []", 1, "stup", "did you mean `setup`?");
    refused("volumes = []", 1, "volumes", "there are `base`, `setup`");
    refused(
        "[resources]\nmemroy = '1GiB'",
        2,
        "resources.memroy",
        "not a key of resources; did you mean `memory`?",
    );
    refused(
        "[[ports]]\nport = 1\n[[ports]]\nport = 2\nvisible = 'x'",
        5,
        "ports[1].visible",
        "not a key of ports[1]",
    );
    refused("\"a b\" = 1", 1, "\"a b\"", "not a key");
    refused("env2.X = 'a'", 1, "env2", "did you mean `env`?");
    for later in LATER {
        refused(&format!("\n{later} = 'x'"), 2, later, "is not supported yet");
        refused(&format!("[{later}]\nx = 1"), 1, later, "is not supported yet");
    }
}

#[test]
fn wrong_types_are_refused() {
    refused("base = 1", 1, "base", "has to be a text in quotes, not an integer");
    refused("setup = 'make'", 1, "setup", "has to be a list of command lines");
    refused("setup = ['a',\n 2]", 2, "setup[1]", "has to be a command line in quotes, not an integer");
    refused("on_start = ['a']", 1, "on_start", "not a list");
    refused("sleep_after = 30", 1, "sleep_after", "such as \"30m\"");
    refused("persist = '/workspace'", 1, "persist", "list of folders");
    refused("env = ['A=b']", 1, "env", "a table of variables");
    refused("[env]\nA = 1", 2, "env.A", "put the value in quotes");
    refused("[env]\nA = true", 2, "env.A", "put the value in quotes");
    refused("[env]\nA.b = 'c'", 2, "env.A", "not a table");
    refused("ports = [3000]", 1, "ports[0]", "a table begun by [[ports]], not an integer");
    refused("[ports]\nport = 1", 1, "ports", "each begun by [[ports]]");
    refused("[[ports]]\nport = '3000'", 2, "ports[0].port", "an integer, not a text");
    refused("resources = 1", 1, "resources", "a table");
    refused("[resources]\ncpu = '1'", 2, "resources.cpu", "a number, not a text");
    refused("[resources]\nmemory = 1024", 2, "resources.memory", "such as \"1GiB\"");
    refused("base = 2026-01-01", 1, "base", "not a date");
}

#[test]
fn bounds_of_steps() {
    let limits = ManifestLimits::default();
    assert_eq!(good(&format!("setup = [{}]", "'a',".repeat(limits.steps))).setup.len(), limits.steps);
    refused(&format!("setup = [{}]", "'a',".repeat(limits.steps + 1)), 1, "setup", "at most 64");
    assert_eq!(
        good(&format!("on_start = '{}'", "a".repeat(limits.step))).on_start.map(|line| line.len()),
        Some(4096)
    );
    refused(
        &format!("on_start = '{}'", "a".repeat(limits.step + 1)),
        1,
        "on_start",
        "longer than 4096 bytes",
    );
    refused("setup = ['a', ' \\t']".replace('\'', "\"").as_str(), 1, "setup[1]", "is empty");
    refused("on_start = ''", 1, "on_start", "is empty");
    refused("setup = [\"a\\u0000b\"]", 1, "setup[0]", "NUL");
}

#[test]
fn bounds_of_base_and_sleep() {
    for bad in ["", "Rust", "a_b", "-a", "a/b", "\u{e4}"] {
        refused(&format!("base = '{bad}'"), 1, "base", "is no name of a base");
    }
    for (text, seconds) in [("10s", Some(10)), ("7d", Some(604_800)), ("90s", Some(90)), ("never", None)] {
        assert_eq!(good(&format!("sleep_after = '{text}'")).sleep_after_s, seconds);
    }
    for bad in ["9s", "0m", "8d", "169h"] {
        refused(&format!("sleep_after = '{bad}'"), 1, "sleep_after", "between 10s and 7d");
    }
    refused("sleep_after = 'half an hour'", 1, "sleep_after", "such as \"30m\"");
}

#[test]
fn persisted_folders_are_plain_and_below_the_roots() {
    for fine in ["/workspace", "/home/flare", "/workspace/a b", "/home/flare/.cache", "/workspace/..data"] {
        assert_eq!(good(&format!("persist = ['{fine}']")).persist, [fine]);
    }
    for (bad, part) in [
        ("", "absolute"),
        ("workspace", "absolute"),
        ("~", "absolute"),
        ("/", "only folders at or below"),
        ("/etc", "only folders at or below"),
        ("/workspaces", "only folders at or below"),
        ("/home/flare2", "only folders at or below"),
        ("/home", "only folders at or below"),
        ("/workspace/../etc", "`..`"),
        ("/workspace/a/..", "`..`"),
        ("/workspace/", "write \"/workspace\""),
        ("//workspace", "write \"/workspace\""),
        ("/workspace/./a", "write \"/workspace/a\""),
        ("/workspace/\t", "control characters"),
    ] {
        refused(&format!("persist = [\n'{bad}']"), 2, "persist[0]", part);
    }
    refused("persist = []", 1, "persist", "lose everything");
    refused("persist = ['/workspace', '/workspace']", 1, "persist[1]", "overlaps");
    refused("persist = ['/workspace/a', '/workspace']", 1, "persist[1]", "overlaps");
    assert_eq!(good("persist = ['/workspace/a', '/workspace/ab']").persist.len(), 2);
}

#[test]
fn names_and_values_of_variables() {
    for fine in ["A", "_a", "a1", "PATH", "SHELL", "HTTP_PROXY", "HOMEBREW"] {
        assert_eq!(good(&format!("env.{fine} = 'x'")).env[fine], "x");
    }
    for bad in ["1A", "A-B", "\"\"", "\"A B\"", "\"A=B\"", "\"\u{c4}\"", "\"A.B\""] {
        let error = read(&format!("env.{bad} = 'x'")).expect_err(bad);
        assert!(error.to_string().contains("is no name of a variable"), "{error}");
    }
    for reserved in ["HOME", "USER", "LOGNAME", "PWD", "SHLVL", "_", "FLARE_SESSION", "SOURCE_DATE_EPOCH"] {
        refused(&format!("env.{reserved} = 'x'"), 1, &format!("env.{reserved}"), "set by the machine");
    }
    refused("env.A = \"a\\u0000\"", 1, "env.A", "NUL");
    assert_eq!(good("env.A = \"a\\nb\"").env["A"], "a\nb");
    assert_eq!(good(&format!("env.A = '{}'", "x".repeat(16 << 10))).env["A"].len(), 16 << 10);
    refused(&format!("env.A = '{}'", "x".repeat((16 << 10) + 1)), 1, "env.A", "longer than");
    let many = |count: usize| (0..count).map(|at| format!("env.A{at} = 'x'\n")).collect::<String>();
    assert_eq!(good(&many(256)).env.len(), 256);
    refused(&many(257), 1, "env", "more than 256");
}

#[test]
fn bounds_of_ports() {
    assert_eq!(good("[[ports]]\nport = 1\n[[ports]]\nport = 65535").ports.len(), 2);
    for bad in ["0", "-1", "65536", "9223372036854775807"] {
        refused(&format!("[[ports]]\nport = {bad}"), 2, "ports[0].port", "between 1 and 65535");
    }
    refused("[[ports]]\nport = 99999999999999999999", 2, "ports[0].port", "too large");
    refused("[[ports]]\nport = 61780", 2, "ports[0].port", "the machine itself uses");
    refused("[[ports]]\nport = 1\n[[ports]]\nport = 1", 4, "ports[1].port", "like another");
    refused(
        "[[ports]]\nport = 1\nname='a'\n[[ports]]\nport = 2\nname='a'",
        6,
        "ports[1].name",
        "like another",
    );
    refused("[[ports]]\nname = 'a'", 1, "ports[0]", "has no `port`");
    refused("[[ports]]\nport = 1\nname = 'A'", 3, "ports[0].name", "is no name");
    refused(
        "[[ports]]\nport = 1\nvisibility = 'publik'",
        3,
        "ports[0].visibility",
        "did you mean \"public\"?",
    );
    refused(&"[[ports]]\nport = 1\n".repeat(33), 1, "ports", "at most 32");
}

#[test]
fn bounds_of_resources() {
    for (text, millis) in [("0.1", 100), ("1", 1000), ("64", 64_000), ("1.5", 1500), ("0.3333", 333)] {
        assert_eq!(good(&format!("resources.cpu = {text}")).limits.cpu_millis, millis);
    }
    for bad in ["0", "0.05", "-1", "64.1", "1e300", "9223372036854775807"] {
        refused(&format!("resources.cpu = {bad}"), 1, "resources.cpu", "between 0.1 and 64 cores");
    }
    for bad in ["nan", "inf", "-inf"] {
        refused(&format!("resources.cpu = {bad}"), 1, "resources.cpu", "not a finite number");
    }
    refused("resources.memory = '1MiB'", 1, "resources.memory", "between 64MiB and 1TiB");
    refused("resources.disk = '17TiB'", 1, "resources.disk", "between 64MiB and 16TiB");
    refused("resources.disk = '4G'", 1, "resources.disk", "write \"4GiB\"");
    refused("resources.disk = 'lots'", 1, "resources.disk", "whole number and a unit");
}

#[test]
fn everything_wrong_is_told_at_once_in_order() {
    let error = read("on_start = 3\nbase = 'B'\nfoo = 1\n[resources]\ncpu = 0\n").expect_err("four problems");
    let lines: Vec<_> = error.problems().iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [Some(1), Some(2), Some(3), Some(5)]);
    assert_eq!(error.to_string().lines().count(), 4);
    let many: String = (0..100).map(|at| format!("wrong{at} = 1\n")).collect();
    assert_eq!(read(&many).expect_err("a hundred").problems().len(), ManifestError::MOST);
    let refusal = crate::error::Error::from(error);
    assert_eq!((refusal.code, refusal.field), ("manifest_invalid", Some("flare.toml")));
}

#[test]
fn hostile_documents_are_answered() {
    assert!(
        read(&format!("#{}", "x".repeat(64 << 10))).expect_err("long").to_string().contains("65536 bytes")
    );
    assert!(read(&format!("a = {}", "[".repeat(30_000))).is_err());
    assert!(read(&format!("{} = 1", vec!["a"; 20_000].join("."))).is_err());
    assert!(read(&format!("[{}]", vec!["a"; 20_000].join("."))).is_err());
    let long_key = read(&format!("{} = 1", "k".repeat(60_000))).expect_err("unknown").to_string();
    assert!(long_key.len() < 400, "messages stay short: {long_key}");
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "[ -~\\n]{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_bytes(&bytes, &ManifestLimits::default());
    }

    /// Damage anywhere gives an answer, and one with a line that exists.
    #[test]
    fn damaged_manifests_are_answered(at in 0..WHOLE.len(), with in "[\\x00-\\x7f]{0,4}", drop in 0usize..6) {
        let end = (at + drop).min(WHOLE.len());
        let text = format!("{}{with}{}", &WHOLE[..at], &WHOLE[end..]);
        if let Err(error) = read(&text) {
            let lines = text.matches('\n').count() + 1;
            prop_assert!(!error.problems().is_empty());
            for problem in error.problems() {
                prop_assert!(problem.line.is_some_and(|line| (1..=lines).contains(&line)), "{}", error);
            }
        }
    }

    /// What is accepted keeps the promises of its fields.
    #[test]
    fn accepted_folders_stay_below_the_roots(path in "(/|/workspace|/home/flare|\\.|\\.\\.|a|/){0,6}") {
        if let Ok(spec) = read(&format!("persist = ['{path}']")) {
            for path in &spec.persist {
                let below = |root: &&str| path == *root || path.starts_with(&format!("{root}/"));
                prop_assert!(ROOTS.iter().any(below));
                prop_assert!(path.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }
}
