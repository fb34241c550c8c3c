//! The setups: ways to the leader, all in front of the same cluster, at the same time, under the same faults.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use lab::{Cluster, Haproxy, HaproxyCheck, haproxy_configuration};
use tokio_postgres::Config;

use crate::proxies::{NAMES, Proxies};

/// The lab leaves the hosts 90 to 99 to its users.
const HAPROXY_HOSTS: [u8; 2] = [91, 92];
const PORT: u16 = 5433;
/// How long a client with several hosts tries each.
const CONNECT_EACH: Duration = Duration::from_secs(2);

/// A way to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Setup {
    /// Two proxies of this project.
    PgLeaderProxy,
    /// Two HAProxies with the check that Patroni recommends. They are not struck by the faults of proxies.
    Haproxy,
    /// No proxy: all members in the connection string, `target_session_attrs=read-write`.
    Direct,
}

impl Setup {
    /// Its name in files and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PgLeaderProxy => "pg-leader-proxy",
            Self::Haproxy => "haproxy",
            Self::Direct => "direct",
        }
    }

    /// Whether its anomalies are those of this project.
    #[must_use]
    pub fn is_own(self) -> bool {
        self == Self::PgLeaderProxy
    }

    /// Where its clients connect: half of them to each.
    pub(crate) fn endpoints(self, cluster: &Cluster) -> Result<[Config; 2]> {
        let [first, second] = match self {
            Self::PgLeaderProxy => {
                let [first, second] = NAMES;
                [cluster.proxy_addresses(first)?.write, cluster.proxy_addresses(second)?.write]
            }
            Self::Haproxy => HAPROXY_HOSTS.map(|host| cluster.spare_address(host, PORT)),
            Self::Direct => {
                let mut config = cluster.multi_host_config();
                config.connect_timeout(CONNECT_EACH);
                return Ok([config.clone(), config]);
            }
        };
        Ok([cluster.app_config(first), cluster.app_config(second)])
    }
}

/// The programs of the setups. Dropping them ends them.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) proxies: Option<Proxies>,
    pub(crate) haproxies: Vec<Haproxy>,
}

/// Starts what these setups need.
pub(crate) async fn start(cluster: &Cluster, setups: &[Setup]) -> Result<Running> {
    let mut running = Running { proxies: None, haproxies: Vec::new() };
    if setups.contains(&Setup::PgLeaderProxy) {
        running.proxies = Some(Proxies::start(cluster).await?);
    }
    if setups.contains(&Setup::Haproxy) {
        let members: Vec<_> = cluster.members().cloned().collect();
        for host in HAPROXY_HOSTS {
            let listen = cluster.spare_address(host, PORT);
            let configuration = haproxy_configuration(HaproxyCheck::Rest, listen, &members);
            running.haproxies.push(Haproxy::start(listen, &configuration)?);
        }
    }
    Ok(running)
}
