//! The router, from the outside: oneshot requests, and real connections where upgrades need them.

mod document;
mod event;
mod flow;
mod input;
mod machine;
mod page;
mod permission;
mod site;
mod support;
mod tenancy;
mod tunnel;
