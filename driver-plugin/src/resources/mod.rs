//! The task's cgroup: its limits, who is in it, and what it uses.
//!
//! Nomad makes the directories before it starts a task, kills whoever is in them when it stops one, and then removes them.
//! A path that it gave is therefore authoritative; what is missing (an older client, a restart of the same
//! allocation) is made, and only what was made here is removed here.

mod cgroups;
mod files;
mod limits;
mod memory;
mod meter;
mod mounts;
mod processes;
#[cfg(test)]
pub(crate) mod real;
pub mod speed;
mod summed;
mod usage;
mod v1;
mod v2;

pub use cgroups::Cgroups;
pub use limits::Limits;
pub use meter::Meter;
pub use mounts::{Mounts, Version};
pub use usage::{Consumption, Cpu, Memory, Throttled, Usage};
