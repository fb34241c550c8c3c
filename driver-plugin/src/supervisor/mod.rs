//! The supervisor: one process per task that outlives the plugin, and the plugin's client for it.
//!
//! ```text
//! plugin ── SupervisorClient ──(control.sock)── supervisor ──(standard input)── proxy process
//! ```
//!
//! The plugin starts a supervisor and sends it a [`LaunchSpec`]; from then on the supervisor needs no plugin. It
//! starts the proxy process, starts it again when it crashes, waits for its exit and records it. It keeps duplicates of
//! the listening sockets, so that new connections wait in the backlog while no process accepts them: after a crash, or
//! while Nomad replaces the task. The supervisor of the replacement takes the sockets over. When the task has exited, the
//! supervisor keeps the sockets for `keep_listening` and ends.
//!
//! | module | content |
//! | --- | --- |
//! | `launch`, `record` | what a task is started with; how it is found again and how it exited |
//! | `state_dir` | the directory that holds a directory for each supervisor |
//! | `protocol`, `control_socket` | every message between the processes; where a supervisor listens |
//! | `deadlines` | how long each step may take |
//! | `client` | the plugin's side: start, find again, stop, destroy; and the command `release` |
//! | `server` | the supervisor process |

mod client;
mod control_socket;
pub(crate) mod deadlines;
mod launch;
pub mod protocol;
pub(crate) mod record;
mod server;
pub(crate) mod state_dir;

pub use client::{
    EventStream, Launcher, RecoverError, Recovered, ReleaseError, SupervisorClient, TaskSockets, Wanted,
    destroy, evict, release,
};
pub use launch::{JobName, LaunchSpec, Occupant, StartError, TaskName};
pub use protocol::QueuedEvent;
pub use record::{TaskExit, TaskRecord};
pub use server::main;
