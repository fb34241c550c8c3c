//! Supervisors and proxy processes, driven through the plugin's side of the library.
#![allow(clippy::unwrap_used, dead_code, reason = "a test; not all of the shared module is used")]

#[path = "../support/cgroups.rs"]
mod cgroups;
mod exits;
mod fixture;
mod hung_disk;
mod leftovers;
mod neighbours;
mod processes;
mod release;
mod restarts;
mod sockets;
mod starts;
mod state_dir;
mod strangers;
mod stuck;
mod versions;
