//! A session as a container beside `docker run` of the same image, by turns in the same run.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::server::Server;
use crate::stats::Times;

/// Create → first byte of a command's output. `FLARE_STATIC_AGENT` names the agent (`.ci/tools/agent`), `FLARE_TEST_IMAGE` the
/// image (`.ci/tools/image base`).
pub(crate) fn run(folder: &Path, count: u64) {
    let given = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (agent, image) = (given("FLARE_STATIC_AGENT"), given("FLARE_TEST_IMAGE"));
    let server =
        Server::with(folder, &["--runtime", "docker", "--image", image.as_str(), "--agent", agent.as_str()]);
    let mut client = Client::register(server.port());
    let template = client.template();
    let (mut ours, mut engine) = (Vec::new(), Vec::new());
    // The first of each fills caches.
    for number in 0..=count {
        let begun = Instant::now();
        let id = client.create_session(&format!("docker-{number}"), &template);
        client.exec_first_byte(&id);
        let session = begun.elapsed();
        let plain = docker_run(&image);
        if number > 0 {
            ours.push(session);
            engine.push(plain);
        }
        client.delete_session(&id);
    }
    let (ours, engine) = (Times::of(ours.into_iter()), Times::of(engine.into_iter()));
    println!(
        "\ncreate -> first command          median        p99     ({count} sessions as containers, by turns)"
    );
    println!("  ours                        {ours}");
    println!("  docker run IMAGE sh -c ...  {engine}   (aim: ours within 150 ms of it)");
}

/// From the start of the client to the first byte of the command's output.
fn docker_run(image: &str) -> Duration {
    let begun = Instant::now();
    let mut child = Command::new("docker")
        .args(["run", "--rm", image, "sh", "-c", "echo ok"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut first = [0];
    output.read_exact(&mut first).unwrap();
    let took = begun.elapsed();
    output.read_to_end(&mut Vec::new()).unwrap();
    assert!(child.wait().unwrap().success());
    took
}
