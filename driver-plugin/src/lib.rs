//! The Nomad task driver `pg-leader-proxy`: Nomad starts this program as its plugin, and the proxy is inside.
//!
//! ```text
//! Nomad agent ── plugin ──────────── supervisor ──────────── proxy process
//!   (Go)  gRPC   answers Nomad,      one per task;           the proxy, in the task's
//!                keeps no task       outlives the plugin,    cgroups, as the task's
//!                alive               keeps the sockets       user
//! ```
//!
//! All are the same executable in different [`roles`]. Nomad may restart the agent or the plugin at any time: a task continues
//! under its supervisor, and the next plugin recovers it from what Nomad stored.
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
//! | [`exec`] | commands beside a task, for `nomad alloc exec` and script checks |
//! | [`resources`] | cgroups, limits, statistics |
//!
//! The driver needs **Nomad 1.7** or newer, whose client creates the cgroups of tasks and tells drivers the speed of the cores.

pub mod about;
pub mod channel;
pub mod clock;
pub mod driver;
pub mod exec;
pub mod fingerprint;
pub mod job_config;
pub mod msgpack;
pub mod plugin;
pub mod plugin_config;
pub mod process_id;
pub mod resources;
pub mod roles;
pub mod runner;
pub mod signal;
pub mod supervisor;
pub mod tasks;
pub mod user;
