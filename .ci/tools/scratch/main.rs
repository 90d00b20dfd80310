//! The one program of an image that has nothing else: no shell, no libraries, no passwd file. The tests run it as `/prog`.

use std::{env, fs, process};

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let line = |name: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().find(|line| line.starts_with(name)).unwrap_or_default().replace('\t', " ")
    };
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["say", rest @ ..] => println!("{}", rest.join(" ")),
        ["who"] => println!(
            "{} {} {} {}",
            line("Uid:"),
            line("CapEff:"),
            env::var("HOME").unwrap_or_default(),
            env::current_dir().unwrap_or_default().display()
        ),
        ["read", path] => match fs::read_to_string(path) {
            Ok(text) => print!("{text}"),
            Err(error) => {
                eprintln!("{path}: {error}");
                process::exit(1);
            }
        },
        ["exit", code] => process::exit(code.parse().unwrap_or(255)),
        _ => process::exit(2),
    }
}
