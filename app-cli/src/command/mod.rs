//! One file per noun or verb.

pub mod attach;
pub mod auth;
pub mod build;
pub mod config_ssh;
pub mod cp;
pub mod dev;
pub mod doctor;
pub mod exec;
pub mod exec_stream;
pub mod history;
pub mod later;
pub mod metrics;
pub mod open;
pub mod port_forward;
pub mod ports;
pub mod print;
pub mod secret;
pub mod serve;
pub mod server;
pub mod session;
pub mod session_wait;
pub mod snapshot;
pub mod ssh;
pub mod template;
pub mod token;
pub mod upload;
