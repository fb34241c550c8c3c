//! Torture: registers and lists, used through two proxies on a real cluster under a random schedule of faults.
//!
//! A run is a seed: it gives the schedule, and so a failing run can be repeated. Times of the schedule are relative to the
//! start. The processes are not deterministic, so the same seed brings the same faults, not the same interleaving.
//!
//! What is judged, for each setup apart (this project's two proxies, two HAProxies, direct connections with several hosts):
//!
//! - **Linearizability** of every register, and strict serializability of the transactions of every pair of lists, by
//!   porcupine (`torture/checker`). An operation whose outcome is unknown stays open for ever.
//! - **Own counts**: acknowledged ids that are lost, ids that are there twice, answers of a server after another one had
//!   taken the leader key, answers of a server in recovery, writes that reached one (SQLSTATE 25006).
//! - **Liveness**: after the last fault, each proxy forwards to the leader within a stated time.
//!
//! With asynchronous replication a failover loses writes, so no linearizability is demanded there. What is lost must be
//! the end of what a leader acknowledged: nothing that came before a write that was kept.

mod checker;
mod client;
mod counts;
mod faults;
mod history;
mod keys;
mod operation;
mod proxies;
mod run;
mod schedule;
mod setups;
mod statements;
mod story;
mod summary;
mod workload;

pub use checker::Verdict;
pub use counts::Counts;
pub use operation::{Answer, Operation, Outcome, Request};
pub use run::{Plan, run};
pub use schedule::{Fault, Kind, Schedule, Target};
pub use setups::Setup;
pub use summary::{SetupSummary, Summary};
