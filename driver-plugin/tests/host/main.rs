//! A host that plays Nomad: it starts the built driver and goes through every rpc, as Nomad's client would.
#![allow(clippy::unwrap_used, reason = "a test")]

mod harness;

mod handshake;
mod kill;
mod lifecycle;
mod recovery;
