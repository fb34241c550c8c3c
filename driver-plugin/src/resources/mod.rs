//! The resources of a task: its cgroups, their limits, and what its processes use.
//!
//! Nomad's client, from 1.7 on, creates a task's cgroups before it starts the task, kills what is left in them when
//! it stops the task, and removes them (`client/lib/cgroupslib`, `client/lib/proclib`). The driver sets limits in
//! them and puts processes into them.

mod cgroups;
mod limits;
mod stats;

pub use cgroups::{CgroupMode, Cgroups};
pub use limits::Limits;
pub use stats::{Sample, StatsCollector, mhz_per_core};
