//! Named observers: a place in the cluster's /24 for one proxy, with links of its own to each etcd server.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, MONITOR, lock};
use crate::link::{Link, Mode};

/// First host number of the observers; each has ten.
const FIRST_HOST: u8 = 100;
const HOSTS_EACH: u8 = 10;
/// Up to host 249.
const LIMIT: usize = 15;
const ETCD_PORT: u16 = 2379;

/// Where a proxy listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The write route.
    pub write: SocketAddr,
    /// The read route.
    pub read: SocketAddr,
    /// The admin page.
    pub admin: SocketAddr,
}

/// One proxy's place.
#[derive(Debug)]
pub(crate) struct Observer {
    listen: Listen,
    etcd: Vec<Link>,
}

impl Cluster {
    /// Where the proxy of this name should listen: 127.R.S.100 for the first one, .110 for the second, …
    ///
    /// # Errors
    /// When a link cannot be bound, or there are too many observers.
    pub fn listen(&self, observer: &str) -> Result<Listen> {
        self.with_observer(observer, |observer| observer.listen)
    }

    /// etcd as this observer reaches it: one link for each server, made at the first call.
    ///
    /// # Errors
    /// As [`Cluster::listen`].
    pub fn etcd_endpoints(&self, observer: &str) -> Result<Vec<String>> {
        self.with_observer(observer, |observer| {
            observer.etcd.iter().map(|link| format!("http://{}", link.address())).collect()
        })
    }

    /// Sets the links of one observer to etcd: `Mode::Paused` is a silent network, `Mode::Cut` refuses. Its users see no
    /// difference until the lease horizon; after it, what the proxy's policy says. `Mode::Open` heals.
    ///
    /// # Errors
    /// As [`Cluster::listen`].
    pub fn set_observer_etcd(&self, observer: &str, mode: Mode) -> Result<()> {
        self.with_observer(observer, |observer| observer.etcd.iter().for_each(|link| link.set(mode)))
    }

    /// The observer's link to one etcd server, 0 to 2, for partial failures.
    ///
    /// # Errors
    /// As [`Cluster::listen`], or when there is no such server.
    pub fn observer_link(&self, observer: &str, server: usize) -> Result<Link> {
        self.with_observer(observer, |observer| observer.etcd.get(server).cloned())?
            .with_context(|| format!("there is no etcd server {server}"))
    }

    /// The proxy's configuration for this cluster. The password of the probe's user is expected in the environment as
    /// `PGLP_PROBE_PASSWORD`, see [`MONITOR`].
    ///
    /// # Errors
    /// As [`Cluster::listen`].
    pub fn proxy_config(&self, observer: &str) -> Result<String> {
        let endpoints: Vec<String> =
            self.etcd_endpoints(observer)?.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
        let Listen { write, read, admin } = self.listen(observer)?;
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
hold = \"30s\"

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

    fn with_observer<T>(&self, name: &str, use_it: impl FnOnce(&Observer) -> T) -> Result<T> {
        let mut observers = lock(&self.observers);
        if !observers.contains_key(name) {
            let number = observers.len();
            ensure!(number < LIMIT, "a cluster has room for {LIMIT} observers");
            observers.insert(name.to_owned(), self.observer(u8::try_from(number)?)?);
        }
        observers.get(name).map(use_it).context("the observer was just made")
    }

    fn observer(&self, number: u8) -> Result<Observer> {
        let host = FIRST_HOST + HOSTS_EACH * number;
        let mut etcd = Vec::new();
        for (place, server) in (host + 1..).zip(&self.etcd_addresses) {
            etcd.push(Link::start(self.background.handle()?, self.subnet.socket(place, ETCD_PORT), *server)?);
        }
        let listen = Listen {
            write: self.subnet.socket(host, 5433),
            read: self.subnet.socket(host, 5434),
            admin: self.subnet.socket(host, 9433),
        };
        Ok(Observer { listen, etcd })
    }
}
