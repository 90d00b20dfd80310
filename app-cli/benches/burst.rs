//! Many sessions at once: create → first byte of a command's output, each on a connection of its own.

use std::sync::Barrier;
use std::time::Instant;

use crate::by_hand;
use crate::client::Client;
use crate::stats::Times;

/// Prints the burst beside as many sets of namespaces, overlay and shell by hand, also at once.
pub(crate) fn run(client: &mut Client, template: &str, count: u64) {
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
    let floor = at_once(count, |_, ready| {
        ready.wait();
        by_hand::run()
    });
    println!(
        "\ncreate -> first command          median        p99     (burst of {count}, all at once; all succeeded)"
    );
    println!(
        "  ours                        {}   (the whole burst {} ms)",
        Times::of(ours.iter().map(|(time, _)| *time)),
        whole.as_millis()
    );
    println!("  by hand                     {}", Times::of(floor.into_iter()));
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
