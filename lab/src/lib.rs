//! A real Patroni cluster on one machine, with faults: for tests, the demo and the benchmarks.
//!
//! Nothing is mocked: three etcd servers, and a Patroni with PostgreSQL for each member. Each cluster takes a /24 of
//! loopback for itself, so many clusters can run side by side. Root is not needed; as root, PostgreSQL and Patroni run as
//! the user `postgres`. `lab/install` installs the programs. When the cluster is dropped, or its process is killed,
//! everything that it started ends and its directory is removed; `LAB_KEEP=1` keeps the directory.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use lab::{Cluster, ClusterOptions, KeyWatch, Proxy, TOLERANCE, Writers};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let cluster = Cluster::start(ClusterOptions::default()).await?; // `a` is the leader, `b` its replica
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
//! Writers, new clients, links and the watch of the leader key run on threads of their own, so they go on while a test
//! blocks its thread.
//!
//! The parts below the cluster are for other tests and benchmarks too: a [`Subnet`] of loopback, a [`Process`] that a
//! [`Reaper`] ends in any case, a [`CertificateAuthority`].

mod addresses;
mod background;
mod certificates;
mod cluster;
mod etcd;
mod faults;
mod haproxy;
mod harmless;
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
mod process_tree;
mod programs;
mod prometheus;
mod proxy;
mod proxy_command;
mod proxy_network;
mod reaper;
mod recovery;
mod session;
mod user;
mod wait;
mod writers;

pub use addresses::Subnet;
pub use certificates::CertificateAuthority;
pub use cluster::{APP, Cluster, DATABASE, MONITOR};
pub use haproxy::{Haproxy, HaproxyCheck, haproxy_configuration};
pub use harmless::HarmlessFault;
pub use history::{Acknowledged, Downtime, Failed, History, TOLERANCE};
pub use key_watch::{KeyEvent, KeyHistory, KeyWatch};
pub use link::{Link, LinkMode};
pub use load::{Failure, Load};
pub use member::Member;
pub use new_clients::{NewClient, NewClients};
pub use options::{ClusterOptions, Patroni};
pub use patroni::{Credentials, SUPERUSER};
pub use process::Process;
pub use programs::{built_program, find_postgres, installed_program, proxy_binary};
pub use prometheus::Prometheus;
pub use proxy::Proxy;
pub use proxy_command::{ProxyArguments, ProxyCommand};
pub use proxy_network::ProxyAddresses;
pub use reaper::Reaper;
pub use recovery::{LeftRecovery, left_recovery};
pub use session::Session;
pub use user::User;
pub use wait::retry;
pub use writers::Writers;
