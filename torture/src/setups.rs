//! The setups: ways to the leader, all in front of the same cluster, at the same time, under the same faults.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use lab::{Cluster, Haproxy, HaproxyCheck, haproxy_configuration};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Config, NoTls};

use crate::proxies::{NAMES, Proxies};

/// The lab leaves the hosts 90 to 99 to its users.
const HAPROXY_HOSTS: [u8; 2] = [91, 92];
const PORT: u16 = 5433;
/// How long a client with several hosts tries each.
const CONNECT_EACH: Duration = Duration::from_secs(2);
/// How long HAProxy may take to know the leader.
const SETTLE_TIME: Duration = Duration::from_secs(60);
/// How many connections in a row have to reach the leader before. HAProxy gives them to its servers in turn, of which there are
/// three.
const IN_A_ROW: u32 = 6;

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
        for config in Setup::Haproxy.endpoints(cluster)? {
            timeout(SETTLE_TIME, settled(&config)).await.context("HAProxy does not find the leader")?;
        }
    }
    Ok(running)
}

/// Waits until HAProxy has asked its servers. Before, it takes all of them for the leader, which says nothing about faults.
async fn settled(haproxy: &Config) {
    let mut reached = 0;
    while reached < IN_A_ROW {
        match reaches_leader(haproxy).await {
            Ok(true) => reached += 1,
            Ok(false) | Err(_) => {
                reached = 0;
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn reaches_leader(config: &Config) -> Result<bool, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let row = client.query_one("select not pg_is_in_recovery()", &[]).await?;
    drop(client);
    connection.abort();
    row.try_get(0)
}
