//! The thin binary: nothing but the agent. `flare-agent container` is how a container's engine starts it; without words
//! it takes what its starter handed over.
#![expect(clippy::print_stderr, reason = "nobody else tells who starts it by hand")]

fn main() {
    let mut words = std::env::args_os().skip(1);
    let status = match (words.next(), words.next()) {
        (None, _) => burstflare_agent::run(),
        (Some(word), None) if word == "container" => burstflare_agent::run_in_container(),
        _ => {
            eprintln!("flare-agent: the one word it knows is `container`");
            2
        }
    };
    std::process::exit(status);
}
