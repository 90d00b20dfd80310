//! The books are true: what they say to type is understood, and the runbook's blocks do what it says they do.

use std::collections::BTreeMap;
use std::path::Path;

use clap::CommandFactory;

use crate::flare::{Place, have, run, session};

const RUNBOOK: &str = include_str!("../../../docs/runbook.md");
const README: &str = include_str!("../../../README.md");

/// Every line for `flare` in a book: a line of a block, or words between backticks.
fn lines(book: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block = false;
    for line in book.lines() {
        if line.starts_with("```") {
            block = !block;
            continue;
        }
        let pieces: Vec<&str> = if block { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for piece in pieces {
            // Behind a variable or a pipe it is the same program.
            let at =
                ["FLARE_LOG=info ", "| "].iter().find_map(|before| Some(piece.find(before)? + before.len()));
            let piece = &piece[at.unwrap_or(0)..];
            if piece.starts_with("flare ") && !piece.contains('…') {
                found.push(piece.trim_end_matches('\\').to_owned());
            }
        }
    }
    found
}

#[test]
fn every_line_for_flare_is_understood() {
    let mut unknown = Vec::new();
    for (name, book, least) in [("docs/runbook.md", RUNBOOK, 20), ("README.md", README, 20)] {
        let lines = lines(book);
        assert!(lines.len() >= least, "{name}: {lines:?}");
        for line in lines {
            // What readers put in stands there as a word; an id looks like one.
            let plain = line
                .replace(['<', '>', '\'', '"'], "")
                .replace("BUCKET", "bucket")
                .replace("ACCOUNT", "account");
            let words = plain.split_whitespace().take_while(|word| *word != "#");
            let parsed = flare::cli::Cli::command().try_get_matches_from(words);
            if let Err(error) = parsed {
                // A noun alone is how text speaks of its verbs.
                let spoken = error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                    || error.kind() == clap::error::ErrorKind::MissingRequiredArgument
                        && !book_block(book, &line);
                if !spoken {
                    unknown.push(format!("{name}: `{line}`: {error}"));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

/// Whether a line stands in a block, to be typed as it is.
fn book_block(book: &str, line: &str) -> bool {
    book.split("```").skip(1).step_by(2).any(|block| block.lines().any(|there| there == line))
}

/// The blocks that are marked to be run, by their names.
fn blocks() -> BTreeMap<&'static str, &'static str> {
    RUNBOOK
        .split("<!-- run: ")
        .skip(1)
        .map(|part| {
            let (name, rest) = part.split_once(" -->\n```sh\n").expect("a block follows");
            (name, rest.split_once("```").expect("it ends").0)
        })
        .collect()
}

fn follow(place: &Place, name: &str, data: &Path, backup: &Path) {
    let block = blocks()[name];
    let mut command = place.command("sh");
    command.args(["-eu", "-c", block]).env("DATA", data).env("BACKUP", backup);
    run(&mut command).ok();
}

#[test]
fn a_backup_restores_and_a_new_master_key_opens_what_the_old_one_sealed() {
    if !have("sqlite3") {
        return;
    }
    let place = Place::new();
    let server = place.server();
    session(&place, &server, None);
    let exec = |line: &str| place.flare(["exec", "s", "-n", "--", "sh", "-c", line]).ok().out;
    std::fs::write(place.path("work/value"), "sealed").expect("written");
    let mut set = place.command(crate::flare::EXE);
    set.args(["secret", "set", "TOKEN"]).stdin(std::fs::File::open(place.path("work/value")).expect("opens"));
    run(&mut set).ok();
    exec("echo kept > kept");
    place.flare(["snapshot", "create", "s"]).ok();

    // While it runs, and with a session that runs.
    let backup = place.path("backup");
    std::fs::create_dir(&backup).expect("made");
    follow(&place, "back up", &server.data, &backup);
    exec("echo later > later");
    let port = server.url.rsplit_once(':').expect("a port").1.to_owned();
    let data = server.data.clone();
    place.flare(["session", "stop", "s"]).ok();
    drop(server);
    std::fs::rename(&data, place.path("lost")).expect("moved");

    follow(&place, "restore", &data, &backup);
    let server = place.server_with(&["--port", &port]);
    place.flare(["session", "start", "s"]).ok();
    assert_eq!(
        exec("cat kept; ls later 2>/dev/null; . /run/user/1000/flare/secrets.env; echo $TOKEN"),
        "kept\nsealed\n"
    );
    place.flare(["session", "stop", "s"]).ok();
    drop(server);

    follow(&place, "new master key", &data, &backup);
    let server = place.server_with(&["--port", &port]);
    place.flare(["session", "start", "s"]).ok();
    assert_eq!(exec("cat kept; . /run/user/1000/flare/secrets.env; echo $TOKEN"), "kept\nsealed\n");
    place.flare(["session", "stop", "s"]).ok();
    drop(server);

    // A lost key is said to be lost; no other one takes its place.
    std::fs::remove_file(data.join("master.key")).expect("removed");
    let mut refused = place.command(crate::flare::EXE);
    run(refused.args(["dev", "--port", &port, "--data-dir"]).arg(&data)).fails(1, "master.key is missing");
    assert!(!data.join("master.key").exists());
}
