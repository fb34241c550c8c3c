//! Benchmarks on real programs, this project's proxy beside its peers in the same run.
//!
//! - [`failover`]: what clients see of a switchover and of a leader crash, by the way they connect to the leader. One
//!   cluster of the [`lab`], with every way to its leader at the same time.
//! - [`wire`]: what each way to a server costs while nothing fails, with a bare epoll loop ([`lower_bound`]) as the limit.
//!
//! `benches/README.md` says how to run them and what the figures mean. `benches/benches` has microbenchmarks of single
//! functions.

mod chart;
pub mod failover;
pub mod lower_bound;
mod machine;
pub mod output;
mod statistics;
mod table;
mod usage;
pub mod wire;

/// The chosen values of a command line option in their usual order, each once; all if none is chosen.
#[must_use]
pub fn chosen_or_all<T: Copy + Ord>(mut chosen: Vec<T>, all: &[T]) -> Vec<T> {
    if chosen.is_empty() {
        return all.to_vec();
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}
