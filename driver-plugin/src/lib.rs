//! The Nomad task driver `pg-leader-proxy`: Nomad starts this program as its plugin, and the proxy is inside.
//!
//! ```text
//! Nomad agent ── plugin ─────────── supervisor ── relay
//!   (Go)         answers Nomad,     outlives the   the proxy itself,
//!                keeps nothing      plugin, keeps  in the task's cgroup
//!                alive              the sockets    and of the task's user
//! ```

pub mod about;
pub mod agent;
pub mod clock;
pub mod driver;
pub mod exec;
pub mod fingerprint;
pub mod identity;
pub mod plugin;
pub mod relay;
pub mod resources;
pub mod schema;
pub mod settings;
pub mod signal;
pub mod supervisor;
pub mod task;
pub mod user;
