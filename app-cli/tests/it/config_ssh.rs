//! `flare config-ssh`: what OpenSSH makes of it.

use std::fs;

use crate::flare::{EXE, Place, have, run};

const URL: &str = "http://127.0.0.1:18999";

#[test]
fn the_block_is_included_and_everything_in_it_is_absolute_and_quoted() {
    let place = Place::new();
    fs::create_dir(place.path("home/.ssh")).expect("made");
    fs::write(place.path("home/.ssh/config"), "Host other\n    User me\n").expect("written");
    let answer = place.flare(["config-ssh", "--url", URL]).ok();
    assert!(answer.err.contains("user database"), "OpenSSH does not read this HOME: {answer:?}");
    let config = fs::read_to_string(place.path("home/.ssh/config")).expect("text");
    let include = format!("Include \"{}\"", place.path("home/.ssh/flare.config").display());
    assert!(config.starts_with("# >>> flare") && config.contains(&include), "{config}");
    assert!(config.ends_with("Host other\n    User me\n"));
    let block = fs::read_to_string(place.path("home/.ssh/flare.config")).expect("text");
    for part in [
        format!(
            "ProxyCommand '{EXE}' ssh-proxy --url '{URL}' --config-dir '{}' '%h'",
            place.path("config").display()
        ),
        format!("IdentityFile \"{}\"", place.path("config/ssh/id_ed25519").display()),
        format!("UserKnownHostsFile \"{}/", place.path("config/ssh/known_hosts").display()),
        "Host *.flare".to_owned(),
        "StrictHostKeyChecking yes".to_owned(),
    ] {
        assert!(block.contains(&part), "`{part}` is not in {block}");
    }
    // Again changes nothing, with another server only the block.
    let again = place.flare(["config-ssh", "--yes", "--url", URL, "--json"]).ok();
    assert_eq!(again.json()["changed"], false);
    place.flare(["config-ssh", "--yes", "--url", "http://127.0.0.1:18998"]).ok();
    assert_eq!(fs::read_to_string(place.path("home/.ssh/config")).expect("text"), config);
    assert!(fs::read_to_string(place.path("home/.ssh/flare.config")).expect("text").contains("18998"));
}

#[test]
fn openssh_understands_it_also_with_strange_paths() {
    if !have("ssh") {
        return;
    }
    let place = Place::new();
    let config = place.path("it's 100% \"mine\"");
    let file = place.path("ssh config");
    fs::write(&file, "User everybody\n").expect("written");
    let mut command = place.command(EXE);
    command.args(["config-ssh", "--url", URL, "--file"]).arg(&file).env("FLARE_CONFIG_DIR", &config);
    run(&mut command).ok();
    let shown = run(place.command("ssh").arg("-F").arg(&file).args(["-G", "alpha.flare"])).ok().out;
    let key = config.join("ssh/id_ed25519");
    assert!(
        shown.contains(&format!("identityfile {}", key.display()).replace('%', "%%"))
            || shown.contains(&key.display().to_string()),
        "{shown}"
    );
    assert!(shown.contains("\nuser flare\n"), "{shown}");
    assert!(shown.contains("/alpha.flare\n") || shown.contains("/%h\n"), "{shown}");
    // Other hosts keep what they had.
    let other = run(place.command("ssh").arg("-F").arg(&file).args(["-G", "example.com"])).ok().out;
    assert!(other.contains("\nuser everybody\n") && !other.contains("ssh-proxy"), "{other}");
}

#[test]
fn the_proxy_takes_no_host_for_a_path() {
    let place = Place::new();
    for host in ["../x", "a/b.flare", "$(id).flare", ".flare"] {
        place.flare(["ssh-proxy", "--url", URL, host]).fails(2, "names no session");
    }
}
