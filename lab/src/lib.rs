//! A real Patroni cluster on one machine, with faults: for tests, the demo and the benches.

mod addresses;
mod background;
mod binaries;
mod certificates;
mod cluster;
mod etcd;
mod faults;
mod guardian;
mod health;
pub mod http;
mod link;
mod member;
mod observer;
mod patroni;
mod process;
mod session;
mod setup;

pub use addresses::Subnet;
pub use cluster::{APP, Cluster, DATABASE, MONITOR};
pub use link::{Link, Mode};
pub use member::Member;
pub use observer::Listen;
pub use patroni::Credentials;
pub use session::Session;
pub use setup::{Patroni, Setup};
