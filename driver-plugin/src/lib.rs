//! The Nomad task driver `pg-leader-proxy`: Nomad starts this program as its plugin, and the proxy is inside.
//!
//! ```text
//! Nomad agent ── plugin ──────────── supervisor ──────────── proxy process
//!   (Go)  gRPC   answers Nomad,      one per task;           the proxy, in the task's
//!                keeps no task       outlives the plugin,    cgroups, as the task's
//!                alive               keeps the sockets       user
//! ```
//!
//! All are the same executable in different [`roles`]. Nomad may restart the agent or the plugin at any time: a task
//! continues under its supervisor, and the next plugin recovers it from what Nomad stored.
//!
//! | module | content |
//! | --- | --- |
//! | [`plugin`] | the plugin process: a go-plugin server |
//! | [`driver`] | Nomad's rpcs |
//! | [`tasks`] | the tasks that the plugin knows |
//! | [`job_config`], [`plugin_config`] | the `config` blocks of a job and of the agent; [`msgpack`] decodes them |
//! | [`fingerprint`] | the health of the host |
//! | [`supervisor`] | the supervisor process, its client, and every message between the processes |
//! | [`runner`] | the proxy process |
//! | [`exec`] | commands in a task, for `nomad alloc exec` and script checks |
//! | [`resources`] | cgroups, limits, statistics |
//! | [`release`] | the command that closes sockets which outlive their task |
//!
//! The driver needs **Nomad 1.7** or newer, whose client creates the cgroups of tasks and tells drivers the speed of
//! the cores.
//!
//! # Why this is not smaller
//!
//! There is no maintained library for the plugin's side of go-plugin in Rust. What Nomad 1.7 does itself was removed;
//! this remains:
//!
//! - **cgroup version 1**: hosts with it exist, the test machines among them. It is
//!   a second set of file names in `resources/cgroups.rs`. `cgroups-rs` manages cgroups of its own and brings a D-Bus
//!   client.
//! - **The log**: the host panics if certain keys of a line are not strings, and takes lines with another form of
//!   time for text, so the JSON format of `tracing-subscriber` cannot be used. `tracing-appender` prints to standard
//!   output when it cannot end in time, which go-plugin does not allow.
//! - **Sockets and descriptors** (`channel.rs`): libraries that pass descriptors return raw numbers, which take
//!   unsafe code to own.
//! - **The roles `proxy` and `exec-shim`**: a process that joins cgroups and changes its user between fork and exec
//!   takes unsafe code, so this executable is started again and changes itself.
//! - **Terminals and background processes of `alloc exec`**: Nomad's conformance suite checks their details.
//! - **go-plugin's health service**: Nomad does not use it for drivers, but go-plugin's guide requires it, and it is
//!   one line.

pub mod about;
pub mod channel;
pub mod clock;
pub mod driver;
pub mod exec;
pub mod fingerprint;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod job_config;
pub mod msgpack;
pub mod plugin;
pub mod plugin_config;
mod privileges;
pub mod process_id;
pub mod release;
pub mod resources;
pub mod roles;
pub mod runner;
mod safe_open;
pub mod signal;
pub mod supervisor;
pub mod tasks;
pub mod user;
