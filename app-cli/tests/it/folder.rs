//! A folder with everything in it becomes a session, byte for byte and mode for mode.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::flare::{Place, have, session};

/// Lists a tree: kind, mode, path, and a digest of the content or the target. The same words run on both sides.
const LIST: &str = r#"cd "$1" && find . -mindepth 1 \( -name made -prune -o -print0 \) | LC_ALL=C sort -z | while IFS= read -r -d '' p; do
  if [ -L "$p" ]; then printf 'l %s -> %s\n' "$p" "$(readlink "$p")";
  elif [ -d "$p" ]; then printf 'd %s %s\n' "$(stat -c %a "$p")" "$p";
  else printf 'f %s %s %s\n' "$(stat -c %a "$p")" "$p" "$(sha256sum < "$p")"; fi; done"#;

#[test]
fn the_folder_is_in_the_session() {
    if !have("bash") || !have("cc") {
        return;
    }
    let place = Place::new();
    let root = place.path("work/template");
    fs::create_dir_all(root.join("empty/nested")).expect("made");
    fs::create_dir_all(root.join("ünï/日本語")).expect("made");
    let every: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    fs::write(root.join("every byte.bin"), every).expect("written");
    fs::write(root.join("ünï/日本語/café.txt"), "naïve").expect("written");
    fs::write(root.join("run.sh"), "#!/bin/sh\necho runs\n").expect("written");
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("set");
    fs::write(root.join("secret"), "x").expect("written");
    fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o600)).expect("set");
    fs::write(root.join("hello.c"), "#include <stdio.h>\nint main(void) { puts(\"compiled\"); return 0; }\n")
        .expect("written");
    symlink("run.sh", root.join("link")).expect("linked");
    symlink("../run.sh", root.join("ünï/up")).expect("linked");
    fs::hard_link(root.join("run.sh"), root.join("hard")).expect("linked");
    fs::write(
        root.join("flare.toml"),
        "setup = [\"mkdir made\", \"cc -o made/hello hello.c\"]\n[env]\nA = \"b c\"\n",
    )
    .expect("written");
    let server = place.server();
    session(&place, &server, Some(&root));
    let there = place.flare(["session", "exec", "s", "--", "bash", "-c", LIST, "list", "/workspace"]).ok();
    let here = crate::flare::run(place.command("bash").args(["-c", LIST, "list"]).arg(&root)).ok();
    assert_eq!(there.out, here.out);
    let runs = place.flare(["session", "exec", "s", "--", "sh", "-c", "made/hello; ./link; echo $A"]).ok();
    assert_eq!(runs.out, "compiled\nruns\nb c\n");
}

#[test]
fn a_step_that_fails_shows_the_end_of_its_log() {
    let place = Place::new();
    let root = place.path("work/template");
    fs::create_dir(&root).expect("made");
    fs::write(root.join("flare.toml"), "setup = [\"echo going well\", \"echo about to fail >&2; exit 3\"]\n")
        .expect("written");
    let server = place.server();
    place.flare(["auth", "register", "--email", "e@example.com", "--url", &server.url]).ok();
    place.flare(["template", "create", "t"]).ok();
    place.flare(["template", "upload", "t", "--version", "1", "--dir", "template"]).ok();
    let failed = place.flare(["template", "promote", "t", "1"]).fails(10, "about to fail");
    assert!(failed.err.contains("hint:"), "{failed:?}");
    place.flare(["template", "upload", "t", "--version", "1", "--dir", "template"]).fails(5, "--version");
    let builds = place.flare(["build", "list", "--json"]).ok().json();
    let build = builds["items"][0]["id"].as_str().expect("an id").to_owned();
    assert!(place.flare(["build", "log", &build]).ok().out.contains("going well"));
    let followed = place.flare(["build", "log", "--follow", &build]).fails(10, "the build failed");
    assert!(followed.out.contains("about to fail"));
}

/// Holes and second names cost the build's disk nothing, and would take their full size in a layer on the host.
#[test]
fn a_build_cannot_leave_more_than_its_disk_holds() {
    let place = Place::new();
    let root = place.path("work/template");
    fs::create_dir(&root).expect("made");
    let manifest = "setup = [\"truncate -s 90M hole\", \"ln hole again\"]\n[resources]\ndisk = \"128MiB\"\n";
    fs::write(root.join("flare.toml"), manifest).expect("written");
    let server = place.server();
    place.flare(["auth", "register", "--email", "e@example.com", "--url", &server.url]).ok();
    place.flare(["template", "create", "t"]).ok();
    place.flare(["template", "upload", "t", "--version", "1", "--dir", "template"]).ok();
    place.flare(["template", "promote", "t", "1"]).fails(10, "too large");
    let layers = fs::read_dir(server.data.join("layers")).expect("layers");
    let whole = layers.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(whole.count(), 0, "nothing was unpacked");
}
