//! A real Patroni cluster on one machine, with faults: for tests, the demo and the benches.
//!
//! Nothing is mocked: three etcd servers, a Patroni with PostgreSQL for each member, on addresses of a /24 of loopback that
//! the cluster takes for itself, so many clusters can run side by side. It needs no root (as root, PostgreSQL and Patroni
//! run as `postgres`). `lab/install` installs the programs. When the cluster is dropped, and also when its process is
//! killed, everything it started ends and its directory goes; `LAB_KEEP=1` leaves the directory.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use lab::{Cluster, KeyWatch, LinkMode, Proxy, ClusterOptions, TOLERANCE, Writers};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let cluster = Cluster::start(ClusterOptions::default()).await?; // `a` leads, `b` streams
//! let keys = KeyWatch::start(&cluster).await?;
//! let proxy = Proxy::start(&cluster.proxy_command("proxy")?).await?;
//! let writers = Writers::start(cluster.load(cluster.proxy_addresses("proxy")?.write))?;
//! writers.wait_for_more(100, Duration::from_secs(10)).await?;
//!
//! let began = Instant::now();
//! cluster.switchover("b").await?; // or kill_member("a"), freeze_member("a"), isolate_member("a", LinkMode::Paused), …
//! writers.wait_for_more(100, Duration::from_secs(60)).await?;
//!
//! let history = writers.stop().await;
//! assert_eq!(history.read_only_errors(), 0, "{:?}", history.messages);
//! assert_eq!(history.hung(), 0);
//! assert!(history.stale_leader_writes(&keys.history(), TOLERANCE).is_empty());
//! assert!(history.lost(&cluster, "b").await?.is_empty());
//! let taken = keys.history().taken_after(began).map(|event| event.at - began);
//! assert!(history.longest_write_downtime().length() < Duration::from_secs(10), "key taken after {taken:?}");
//! assert_eq!(proxy.get("/ready").await?.status, 200);
//! # Ok(())
//! # }
//! ```
//!
//! Writers, latecomers, links and the watch of the key each work on a thread of their own and keep time while a test
//! blocks. A test that uses only one thread is therefore fine.

mod addresses;
mod background;
mod binaries;
mod certificates;
mod cluster;
mod etcd;
mod faults;
mod health;
mod history;
pub mod http;
mod key_watch;
mod link;
mod load;
mod member;
mod new_clients;
mod options;
mod patroni;
mod process;
mod proxy;
mod proxy_command;
mod proxy_network;
mod reaper;
mod session;
mod writers;

pub use addresses::Subnet;
pub use binaries::find_postgres;
pub use cluster::{APP, Cluster, DATABASE, MONITOR};
pub use history::{Acknowledged, Downtime, Failed, History, TOLERANCE};
pub use key_watch::{KeyEvent, KeyHistory, KeyWatch};
pub use link::{Link, LinkMode};
pub use load::{Failure, Load};
pub use member::Member;
pub use new_clients::{NewClient, NewClients};
pub use options::{ClusterOptions, Patroni};
pub use patroni::Credentials;
pub use process::{Process, User};
pub use proxy::Proxy;
pub use proxy_command::{ProxyArguments, ProxyCommand, proxy_binary};
pub use proxy_network::ProxyAddresses;
pub use reaper::Reaper;
pub use session::Session;
pub use writers::Writers;
