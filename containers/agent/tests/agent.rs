//! The agent from outside: started as machines start it, called as the edge calls it, with real clients.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "what was measured, and what was skipped, is said loudly")]

#[path = "agent/activity.rs"]
mod activity;
#[path = "agent/archive.rs"]
mod archive;
#[path = "agent/bundle.rs"]
mod bundle;
#[path = "agent/calls.rs"]
mod calls;
#[path = "agent/exec.rs"]
mod exec;
#[path = "agent/files.rs"]
mod files;
#[path = "agent/files_call.rs"]
mod files_call;
#[path = "agent/files_confined.rs"]
mod files_confined;
#[path = "agent/files_stream.rs"]
mod files_stream;
#[path = "agent/machine.rs"]
mod machine;
#[path = "agent/port.rs"]
mod port;
#[path = "agent/resume.rs"]
mod resume;
#[path = "agent/signal.rs"]
mod signal;
#[path = "agent/snapshot.rs"]
mod snapshot;
#[path = "agent/snapshot_calls.rs"]
mod snapshot_calls;
#[path = "agent/snapshot_change.rs"]
mod snapshot_change;
#[path = "agent/snapshot_damage.rs"]
mod snapshot_damage;
#[path = "agent/snapshot_place.rs"]
mod snapshot_place;
#[path = "agent/ssh.rs"]
mod ssh;
#[path = "agent/terminal.rs"]
mod terminal;
#[path = "agent/tree.rs"]
mod tree;
