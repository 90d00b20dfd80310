//! The thin binary: nothing but the agent. `flare-agent container` is how a container's engine starts it, `flare-agent
//! container SOCKET` where it is to be called by a unix socket instead of TCP; without words it takes what its starter
//! handed over.
#![expect(clippy::print_stderr, reason = "nobody else tells who starts it by hand")]

fn main() {
    let mut words = std::env::args_os().skip(1);
    let status = match (words.next(), words.next(), words.next()) {
        (None, ..) => burstflare_agent::run(),
        (Some(word), socket, None) if word == "container" => {
            burstflare_agent::run_in_container(socket.map(std::path::PathBuf::from))
        }
        _ => {
            eprintln!("flare-agent: the words it knows are `container` and `container SOCKET`");
            2
        }
    };
    std::process::exit(status);
}
