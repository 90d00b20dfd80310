//! The thin binary: nothing but the agent.

fn main() {
    std::process::exit(burstflare_agent::run());
}
