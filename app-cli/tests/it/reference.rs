//! The reference of the command line, as text under version control: a change of it is seen in review.

use clap::CommandFactory;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/REFERENCE.txt");

fn write(command: &mut clap::Command, words: &str, text: &mut String) {
    text.push_str(&format!("$ flare{words} --help\n{}\n", command.render_long_help()));
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names.iter().filter(|name| *name != "help") {
        let sub = command.find_subcommand_mut(name).expect("it is there");
        // Words of later versions have nothing to say yet.
        if !sub.is_hide_set() {
            write(sub, &format!("{words} {name}"), text);
        }
    }
}

/// `UPDATE_GOLDEN=1` writes it anew.
#[test]
fn it_is_as_committed() {
    let mut command = flare::cli::Cli::command().term_width(100);
    command.build();
    let mut text = String::new();
    write(&mut command, "", &mut text);
    let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(FILE, text).expect("written");
        return;
    }
    let committed = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(committed == text, "REFERENCE.txt is out of date: run this test with UPDATE_GOLDEN=1");
}
