//! A host that plays Nomad: it starts the built driver and calls every rpc as Nomad's client does.
#![allow(clippy::unwrap_used, reason = "a test")]

mod harness;

mod config;
mod exec;
mod handover;
mod handshake;
mod leader;
mod lifecycle;
mod log_lines;
mod pitfalls;
mod recovery;
mod shutdown;
mod stats;
mod streams;
