//! A host that plays Nomad: it starts the built driver and goes through every rpc, as Nomad's client would.
#![allow(clippy::unwrap_used, reason = "a test")]

mod harness;

mod config;
mod exec;
mod handover;
mod handshake;
mod kill;
mod leader;
mod lifecycle;
mod log_lines;
mod pitfalls;
mod recovery;
mod stats;
mod streams;
