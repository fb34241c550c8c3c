//! Deploys, checks, drills and rolls back the layout of this folder on a Nomad cluster: it calls `nomad`, and asks etcd, Patroni and
//! the proxy by HTTP and PostgreSQL by SQL. Each command stops at the first gate that fails, with the evidence.

pub mod backup;
pub mod candles;
pub mod cutover;
pub mod deploy;
pub mod directories;
pub mod drill;
pub mod etcd_wipe;
pub mod gate;
mod http;
pub mod images;
pub mod jobs;
pub mod layout;
pub mod meta;
pub mod nomad;
pub mod preflight;
pub mod restore;
mod results;
pub mod shell;
pub mod site;
mod sql;
pub mod validate;
pub mod variables;
pub mod writers;
