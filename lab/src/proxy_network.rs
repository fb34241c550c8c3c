//! The network around one proxy: where it listens, and its own links to each etcd server.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tokio::runtime::Handle;

use crate::addresses::Subnet;
use crate::link::{Link, LinkMode};

/// First host number of the proxies in the cluster's /24; each has ten hosts.
const FIRST_HOST: u8 = 100;
const HOSTS_EACH: u8 = 10;
/// Proxies of one cluster: the last one has the hosts 240 to 249.
const MAX_PROXIES: u8 = 15;
const ETCD_PORT: u16 = 2379;

/// Where a proxy listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyAddresses {
    /// The write route.
    pub write: SocketAddr,
    /// The read route.
    pub read: SocketAddr,
    /// The admin page.
    pub admin: SocketAddr,
}

/// The addresses of one proxy and its links to etcd.
#[derive(Debug)]
pub(crate) struct ProxyNetwork {
    pub(crate) addresses: ProxyAddresses,
    /// One link for each etcd server.
    pub(crate) etcd: Vec<Link>,
}

impl ProxyNetwork {
    /// The network of proxy `number`, counted from 0.
    pub(crate) fn start(runtime: &Handle, subnet: &Subnet, number: u8, etcd: &[SocketAddr]) -> Result<Self> {
        ensure!(number < MAX_PROXIES, "a cluster has room for {MAX_PROXIES} proxies");
        let host = FIRST_HOST + HOSTS_EACH * number;
        let addresses = ProxyAddresses {
            write: subnet.socket(host, 5433),
            read: subnet.socket(host, 5434),
            admin: subnet.socket(host, 9433),
        };
        let links = (host + 1..)
            .zip(etcd)
            .map(|(host, server)| Link::start(runtime, subnet.socket(host, ETCD_PORT), *server))
            .collect::<Result<_>>()?;
        Ok(Self { addresses, etcd: links })
    }

    pub(crate) fn set_etcd(&self, mode: LinkMode) {
        self.etcd.iter().for_each(|link| link.set(mode));
    }
}
