//! A real Patroni cluster on one machine, with faults: for tests, the demo and the benches.
//!
//! Nothing is mocked: three etcd servers, a Patroni with PostgreSQL for each member, on addresses of a /24 of loopback that
//! the cluster takes for itself, so many clusters can run side by side. It needs no root (as root, PostgreSQL and Patroni
//! run as `postgres`). `lab/install` installs the programs. When the cluster is dropped, and also when its process is
//! killed, everything it started ends and its directory goes; `LAB_KEEP=1` leaves the directory.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use lab::{Cluster, KeyWatch, Mode, Proxy, Setup, TOLERANCE, Writers};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let cluster = Cluster::start(Setup::default()).await?; // `a` leads, `b` streams
//! let keys = KeyWatch::start(&cluster).await?;
//! let proxy = Proxy::start(&cluster.proxy("proxy")?).await?;
//! let writers = Writers::start(cluster.load(cluster.listen("proxy")?.write))?;
//! writers.wait_for_more(100, Duration::from_secs(10)).await?;
//!
//! let began = Instant::now();
//! cluster.switchover("b").await?; // or kill_member("a"), freeze_member("a"), isolate_member("a", Mode::Paused), …
//! writers.wait_for_more(100, Duration::from_secs(60)).await?;
//!
//! let history = writers.stop().await;
//! assert_eq!(history.read_only_errors(), 0, "{:?}", history.words);
//! assert_eq!(history.hung(), 0);
//! assert!(history.acknowledged_after_loss(&keys.history(), TOLERANCE).is_empty());
//! assert!(history.lost(&cluster, "b").await?.is_empty());
//! let taken = keys.history().taken_after(began).map(|event| event.at - began);
//! assert!(history.longest_gap().length() < Duration::from_secs(10), "key taken after {taken:?}");
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
mod guardian;
mod health;
mod history;
pub mod http;
mod key_watch;
mod latecomers;
mod link;
mod load;
mod member;
mod observer;
mod patroni;
mod process;
mod proxy;
mod session;
mod setup;
mod writers;

pub use addresses::Subnet;
pub use binaries::find_postgres;
pub use cluster::{APP, Cluster, DATABASE, MONITOR};
pub use guardian::Guardian;
pub use history::{Acknowledged, Failed, Gap, History, TOLERANCE};
pub use key_watch::{KeyEvent, KeyHistory, KeyWatch};
pub use latecomers::{Arrival, Latecomers};
pub use link::{Link, Mode};
pub use load::{Failure, Load};
pub use member::Member;
pub use observer::Listen;
pub use patroni::Credentials;
pub use process::{Process, User};
pub use proxy::{Arguments, Proxy, ProxySetup, proxy_binary};
pub use session::Session;
pub use setup::{Patroni, Setup};
pub use writers::Writers;
