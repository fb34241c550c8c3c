//! Commands in a task, through the library, with the built program as their shim.

#![allow(clippy::unwrap_used, dead_code, reason = "a test; not all of the shared module is used")]

#[path = "../support/cgroups.rs"]
mod cgroups;
mod environment;
mod harness;
mod run;
mod stream;
mod terminal;
