//! Brings PostgreSQL clients to the Patroni member that is the leader and accepts writes.

pub mod clock;
pub mod config;
pub mod control;
pub mod sources;
pub mod tally;
