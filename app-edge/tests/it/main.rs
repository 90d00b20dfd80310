//! The router, from the outside: oneshot requests, and real connections where upgrades need them.
#![expect(clippy::expect_used, clippy::panic, reason = "what a test needs and does not get fails it")]

mod application;
mod document;
mod event;
mod files;
mod flow;
mod idle;
mod input;
mod machine;
mod page;
mod permission;
mod preview;
mod preview_life;
mod reconcile;
mod secret;
mod site;
mod stay;
mod support;
mod tenancy;
mod terminal;
mod tunnel;
