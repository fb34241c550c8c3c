//! Connects PostgreSQL clients to the Patroni member that is the leader and accepts writes.

pub mod admin;
pub mod admission;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod control_socket;
pub mod counters;
pub mod events;
pub mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod http_client;
mod http_server;
pub mod import;
pub mod logging;
pub mod net;
pub mod networks;
pub mod phase;
pub mod proxy_protocol;
#[cfg(test)]
#[cfg(feature = "races")]
mod races;
pub mod route;
pub mod session;
pub mod sources;
mod sync;
pub mod timing;
mod tls;
pub mod wire;
pub mod worker;
