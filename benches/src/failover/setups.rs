//! The setups that are compared: ways to the leader, all in front of the same cluster at the same time.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use lab::{Cluster, Haproxy, HaproxyCheck as Check, Load, Proxy, ProxyArguments, haproxy_configuration};

use super::results::Settings;

/// Writers of one setup. Few and slow, because those of five setups share the cores with the cluster. What is compared is
/// how fast each setup finds the new leader, not how setups share a processor.
const WRITERS: usize = 2;
const PAUSE: Duration = Duration::from_millis(10);
/// A login takes milliseconds of processor time, and clients without a leader retry during the whole downtime.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
/// Longer than every intended wait: the key's 20 seconds, and the 35 seconds that the proxy holds a client by default.
const WRITER_TIMEOUT: Duration = Duration::from_secs(40);
/// As often as the processor time of their logins allows.
pub(crate) const NEW_CLIENT_EVERY: Duration = Duration::from_millis(100);
const NEW_CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Writes and errors that are kept of one event, each: some 20 times what an event has.
const LIMIT: usize = 200_000;
/// The lab leaves the hosts 90 to 99 to its users.
const FIRST_HOST: u8 = 91;
const PORT: u16 = 5433;
const PROXY: &str = "proxy";

/// A way to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Setup {
    /// No proxy: both servers in the connection string, `target_session_attrs=read-write`.
    Direct,
    /// HAProxy with a TCP check, the first member preferred.
    HaproxyTcp,
    /// HAProxy with Patroni's recommended REST check.
    HaproxyRest,
    /// HAProxy with the REST check every 100 ms.
    #[value(name = "haproxy-100ms")]
    Haproxy100Ms,
    /// This project.
    PgLeaderProxy,
}

impl Setup {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 5] =
        [Self::Direct, Self::HaproxyTcp, Self::HaproxyRest, Self::Haproxy100Ms, Self::PgLeaderProxy];

    /// Its name in tables, on the command line and in the rows that its clients write.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::HaproxyTcp => "haproxy-tcp",
            Self::HaproxyRest => "haproxy-rest",
            Self::Haproxy100Ms => "haproxy-100ms",
            Self::PgLeaderProxy => "pg-leader-proxy",
        }
    }

    /// Whether it finds the leader wherever it is. The TCP check does not, so nothing waits for it.
    pub(crate) fn finds_leader(self) -> bool {
        self != Self::HaproxyTcp
    }

    fn check(self) -> Option<Check> {
        match self {
            Self::Direct | Self::PgLeaderProxy => None,
            Self::HaproxyTcp => Some(Check::Tcp),
            Self::HaproxyRest => Some(Check::Rest),
            Self::Haproxy100Ms => Some(Check::Rest100Ms),
        }
    }
}

/// The running setups. Dropping them ends their programs.
#[derive(Debug)]
pub(crate) struct RunningSetups {
    pub(crate) setups: Vec<Setup>,
    /// This project's proxy, if it takes part.
    pub(crate) proxy: Option<Proxy>,
    _haproxies: Vec<Haproxy>,
}

impl RunningSetups {
    /// Starts them all. `proxy_settings` are `key=value`, for experiments.
    pub(crate) async fn start(
        cluster: &Cluster,
        setups: &[Setup],
        proxy_settings: &[String],
    ) -> Result<Self> {
        let members: Vec<_> = cluster.members().cloned().collect();
        let mut haproxies = Vec::new();
        let mut proxy = None;
        for setup in setups {
            if let Some(check) = setup.check() {
                let listen = address(cluster, *setup)?;
                haproxies.push(Haproxy::start(listen, &haproxy_configuration(check, listen, &members))?);
            } else if *setup == Setup::PgLeaderProxy {
                proxy = Some(start_proxy(cluster, proxy_settings).await?);
            }
        }
        Ok(Self { setups: setups.to_vec(), proxy, _haproxies: haproxies })
    }
}

/// The load of a setup's writers.
pub(crate) fn writers(cluster: &Cluster, setup: Setup) -> Result<Load> {
    let mut load = cluster.load(address(cluster, setup)?);
    if setup == Setup::Direct {
        load.config = cluster.multi_host_config();
    }
    load.config.application_name(setup.name());
    load.writers = WRITERS;
    load.pause = PAUSE;
    load.pause_after_error = PAUSE_AFTER_ERROR;
    load.timeout = WRITER_TIMEOUT;
    load.limit = LIMIT;
    Ok(load)
}

/// The load of a setup's new clients.
pub(crate) fn new_clients(cluster: &Cluster, setup: Setup) -> Result<Load> {
    let mut load = writers(cluster, setup)?;
    load.timeout = NEW_CLIENT_TIMEOUT;
    Ok(load)
}

/// The settings, for the results.
pub(crate) fn settings(cluster: &Cluster, proxy_settings: &[String]) -> Settings {
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let options = cluster.options();
    Settings {
        writers: WRITERS,
        pause_ms: ms(PAUSE),
        pause_after_error_ms: ms(PAUSE_AFTER_ERROR),
        writer_timeout_ms: ms(WRITER_TIMEOUT),
        new_client_every_ms: ms(NEW_CLIENT_EVERY),
        new_client_timeout_ms: ms(NEW_CLIENT_TIMEOUT),
        patroni_seconds: [options.ttl, options.loop_wait, options.retry_timeout],
        proxy_settings: proxy_settings.to_vec(),
    }
}

fn address(cluster: &Cluster, setup: Setup) -> Result<SocketAddr> {
    match setup {
        Setup::PgLeaderProxy => Ok(cluster.proxy_addresses(PROXY)?.write),
        Setup::Direct => Ok(cluster.members().next().context("the cluster has no members")?.postgres),
        Setup::HaproxyTcp | Setup::HaproxyRest | Setup::Haproxy100Ms => {
            Ok(cluster.spare_address(FIRST_HOST + setup as u8, PORT))
        }
    }
}

/// With default settings, and directly to etcd: a link of the lab would be one hop more than the other setups have.
async fn start_proxy(cluster: &Cluster, settings: &[String]) -> Result<Proxy> {
    let mut command = cluster.proxy_command(PROXY)?;
    if let ProxyArguments::Config(text) = &mut command.arguments {
        for (link, server) in cluster.etcd_endpoints(PROXY)?.iter().zip(cluster.etcd_direct()) {
            *text = text.replace(link, &format!("http://{server}"));
        }
    }
    for setting in settings {
        let (key, value) =
            setting.split_once('=').with_context(|| format!("{setting:?} is not KEY=VALUE"))?;
        let variable = format!("PGLP_{}", key.replace('.', "_").to_uppercase());
        command.environment.push((variable, value.to_owned()));
    }
    Proxy::start(&command).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_the_same_names() {
        for setup in Setup::ALL {
            assert_eq!(setup.to_possible_value().unwrap().get_name(), setup.name());
        }
    }
}
