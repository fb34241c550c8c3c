//! What to run as the proxy in front of a cluster: the program, its configuration and its environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cluster::{Cluster, MONITOR};
use crate::link::LinkMode;
use crate::programs::proxy_binary;
use crate::proxy_network::{ProxyAddresses, ProxyNetwork};

/// What to run.
#[derive(Clone, Debug)]
pub struct ProxyCommand {
    /// The program.
    pub binary: PathBuf,
    /// Its configuration.
    pub arguments: ProxyArguments,
    /// Environment variables; nothing else is inherited but `PATH` and the like.
    pub environment: Vec<(String, String)>,
    /// Where its admin page will listen.
    pub admin: SocketAddr,
}

/// How the proxy is configured.
#[derive(Clone, Debug)]
pub enum ProxyArguments {
    /// `run --config FILE` with this text in the file.
    Config(String),
    /// `run` with these flags.
    Flags(Vec<String>),
}

/// Every proxy of a cluster has a name. Its addresses and links are made when the name is first used.
impl Cluster {
    /// The proxy of this name with [`Cluster::proxy_config`], ready for [`Proxy::start`](crate::Proxy::start).
    /// Tests change what they are about.
    ///
    /// # Errors
    /// When the program is not found, or as [`Cluster::proxy_addresses`].
    pub fn proxy_command(&self, proxy: &str) -> Result<ProxyCommand> {
        Ok(ProxyCommand {
            binary: proxy_binary()?,
            arguments: ProxyArguments::Config(self.proxy_config(proxy)?),
            environment: vec![("PGLP_PROBE_PASSWORD".to_owned(), MONITOR.password.to_owned())],
            admin: self.proxy_addresses(proxy)?.admin,
        })
    }

    /// The proxy's configuration for this cluster. It takes the password of [`MONITOR`] from the environment's
    /// `PGLP_PROBE_PASSWORD`.
    ///
    /// # Errors
    /// As [`Cluster::proxy_addresses`].
    pub fn proxy_config(&self, proxy: &str) -> Result<String> {
        let endpoints: Vec<String> =
            self.etcd_endpoints(proxy)?.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
        let ProxyAddresses { write, read, admin } = self.proxy_addresses(proxy)?;
        Ok(format!(
            "[cluster]
scope = \"{scope}\"

[etcd]
endpoints = [{endpoints}]

[probe]
user = \"{user}\"
password_env = \"PGLP_PROBE_PASSWORD\"
database = \"postgres\"

[write]
listen = [\"{write}\"]
hold_timeout = \"30s\"

[read]
listen = [\"{read}\"]

[admin]
listen = \"{admin}\"
",
            scope = self.scope(),
            endpoints = endpoints.join(", "),
            user = MONITOR.user,
        ))
    }

    /// Where the proxy listens: 127.R.S.100 for the first name, .110 for the second, …
    ///
    /// # Errors
    /// When a link cannot be bound, or there are too many proxies.
    pub fn proxy_addresses(&self, proxy: &str) -> Result<ProxyAddresses> {
        self.with_proxy_network(proxy, |network| network.addresses)
    }

    /// etcd as the proxy reaches it: one link for each server.
    ///
    /// # Errors
    /// As [`Cluster::proxy_addresses`].
    pub fn etcd_endpoints(&self, proxy: &str) -> Result<Vec<String>> {
        self.with_proxy_network(proxy, |network| {
            network.etcd.iter().map(|link| format!("http://{}", link.address())).collect()
        })
    }

    /// Sets the proxy's links to etcd: `LinkMode::Paused` is a silent network, `LinkMode::Cut` refuses, `LinkMode::Open`
    /// heals. Clients see no difference until the lease horizon; then the proxy does what its policy says.
    ///
    /// # Errors
    /// As [`Cluster::proxy_addresses`].
    pub fn set_proxy_etcd_links(&self, proxy: &str, mode: LinkMode) -> Result<()> {
        self.with_proxy_network(proxy, |network| network.set_etcd(mode))
    }

    fn with_proxy_network<T>(&self, proxy: &str, read: impl FnOnce(&ProxyNetwork) -> T) -> Result<T> {
        let mut networks = self.proxy_networks.lock();
        if !networks.contains_key(proxy) {
            let number = u8::try_from(networks.len())?;
            let runtime = self.background.handle()?;
            let network = ProxyNetwork::start(runtime, &self.subnet, number, &self.etcd_addresses)?;
            networks.insert(proxy.to_owned(), network);
        }
        networks.get(proxy).map(read).context("the network was just made")
    }
}
