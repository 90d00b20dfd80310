//! Many sessions at once: create → first byte of a command's output, each on a connection of its own.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::by_hand;
use crate::client::Client;
use crate::stats::Times;
use crate::{memory, processor};

/// Prints the burst beside as many sets of namespaces, overlay and shell by hand, also at once.
pub(crate) fn run(client: &mut Client, template: &str, data: &Path, server: u32, count: u64) {
    let used = || processor::of(memory::agent_pids(data).into_iter().chain([server]));
    let before = used();
    let begun = Instant::now();
    let ours = at_once(count, |number, ready| {
        let mut client = client.another();
        ready.wait();
        let begun = Instant::now();
        let id = client.create_session(&format!("burst-{number}"), template);
        client.exec_first_byte(&id);
        (begun.elapsed(), id)
    });
    let whole = begun.elapsed();
    let ours_used = used() - before;
    let before = processor::own();
    let begun = Instant::now();
    let floor = at_once(count, |_, ready| {
        ready.wait();
        by_hand::run()
    });
    let floor_whole = begun.elapsed();
    let floor_used = processor::own() - before;
    let each = |used: Duration| used.as_secs_f64() * 1e3 / count as f64;
    println!(
        "\ncreate -> first command          median        p99     (burst of {count}, all at once; all succeeded)"
    );
    println!(
        "  ours                        {}   (the whole burst {} ms, processor time {:.1} ms each)",
        Times::of(ours.iter().map(|(time, _)| *time)),
        whole.as_millis(),
        each(ours_used)
    );
    println!(
        "  by hand                     {}   (the whole burst {} ms, processor time {:.1} ms each)",
        Times::of(floor.into_iter()),
        floor_whole.as_millis(),
        each(floor_used)
    );
    for (_, id) in ours {
        client.delete_session(&id);
    }
}

fn at_once<T: Send>(count: u64, one: impl Fn(u64, &Barrier) -> T + Sync) -> Vec<T> {
    let ready = Barrier::new(usize::try_from(count).unwrap());
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..count)
            .map(|number| {
                let (one, ready) = (&one, &ready);
                scope.spawn(move || one(number, ready))
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("a session of the burst")).collect()
    })
}
