//! The supervisor: one process for each task, which outlives the plugin.
//!
//! ```text
//! plugin ── Supervisor ──(control.sock)── supervisor ──(its standard input)── relay
//!           start, stop,                  keeps what the plugin may           the proxy
//!           signal, news …                forget: launch, sockets, exit
//! ```
//!
//! It is started by the plugin and told what to [launch](Launch); from then on it needs no plugin. It keeps duplicates of
//! the listening sockets, so that connects wait while nobody accepts them: when the relay has crashed, or while Nomad
//! replaces the task by its next version, whose supervisor asks this one for them. When the relay has ended it writes
//! down [how](Exit), keeps the sockets for a while, and ends.
//!
//! | file | what |
//! | --- | --- |
//! | `client`, `start` | the plugin's side |
//! | `role`, `answers` | the process and its conversations |
//! | `course`, `process` | the life of a relay: from launch to exit |
//! | `state`, `news`, `sockets` | what is kept |
//! | `protocol`, `channel` | what is said, and how |

mod answers;
pub mod channel;
mod client;
mod course;
mod launch;
mod logs;
mod news;
mod process;
pub mod protocol;
mod record;
mod role;
mod sockets;
mod start;
mod state;

pub use client::{Found, NewsStream, RecoverError, Supervisor};
pub use launch::{Launch, StartError, TaskName};
pub use protocol::Dispatch;
pub use record::{Exit, Record};
pub(crate) use role::close_inherited;
pub use role::supervise;
pub use start::Base;

/// The argument that makes this program a supervisor; the directory of the supervisor follows it.
pub const ROLE: &str = "supervise";
/// What the processes are called in the list of processes.
const PROGRAM: &str = "nomad-driver-pg-leader-proxy";
