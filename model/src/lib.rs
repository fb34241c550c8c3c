//! A model checker for the decision: the real router of `pg-leader-proxy-core` among models of etcd, Patroni, PostgreSQL,
//! the network and clocks.
//!
//! `make model` runs it. It goes through every history with up to so many [`Disturbance`]s, at any moments, and judges each
//! state by the laws of the core. A law that is broken is told as a scenario file.
//!
//! # The world
//!
//! Time passes in rounds of a second, with a `ttl` of 5 s and all other lengths scaled down in their order. In a round
//! leases run out, each Patroni acts (`patroni`), bytes pass on what the proxies knew before, and each proxy hears the watch,
//! reads etcd and asks every server (`proxy`, `etcd_source`). An answer can be late by two rounds, and then arrives after newer ones
//! of other connections.
//!
//! Patroni here is more reckless than the real one: a replica takes a vacant key without looking whether the old primary
//! still runs, and is out of recovery in the same round.
//!
//! # What is judged
//!
//! By what is *really so* in the cluster: that no byte passes to a server that takes writes when Patroni has made another one
//! the primary; and that every proxy serves new sessions 7 rounds after all faults have ended. By what a proxy *was told*
//! (`told`, kept apart from the router): all the other laws. `laws` has both.
//!
//! # What is assumed
//!
//! A lease ends no sooner than etcd said; the leader key is deleted only by its holder, when its server has stopped; a proxy's
//! clock lags by no more than the margin over a history; a machine that was suspended sees the step of its wall clock
//! before it passes a byte. Not in the model: the read route, addresses that change, records of another cluster, standby
//! clusters, a monitoring user that is denied, and what lasts for minutes (the hour in which a departed member is remembered).
//!
//! # Why not a library
//!
//! Between two disturbances the world goes on in one way only. The search rests on that: it keeps a fingerprint of each state
//! and a few bytes for each chain of states, where `stateright` (0.31, of July 2025) keeps whole states, of some kilobytes here,
//! in its queue. And with nothing but the core to compile, a mutant takes seconds.

mod broken;
mod cluster;
mod disturb;
mod disturbance;
mod etcd_source;
mod fingerprint;
mod history;
mod laws;
mod mutants;
mod mutations;
mod patroni;
mod proxy;
#[path = "../../proxy/core/tests/script/mod.rs"]
mod script;
mod search;
mod setup;
mod told;
mod world;

pub use broken::Broken;
pub use disturbance::{Disturbance, OfCluster, OfMember, OfProxy};
pub use history::{Counterexample, History};
pub use mutants::{Verdict, try_out_mutants};
pub use mutations::{MUTATIONS, Mutation};
pub use search::{Explored, explore};
pub use setup::{SETUPS, Setup};
