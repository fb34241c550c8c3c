//! The ways to the leader that are compared, all in front of the same cluster at the same time.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use lab::{APP, Cluster, DATABASE, Load, Proxy, ProxyArguments};
use tempfile::TempDir;
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;

use crate::haproxy::{self, Check, Haproxy};
use crate::results::Settings;

/// Writers of one contender. Few and slow, because those of five contenders share the cores with the cluster: what is
/// compared is how fast each learns of the new leader, not how it shares a processor.
const WRITERS: usize = 2;
const PAUSE: Duration = Duration::from_millis(10);
/// "At once", but a login costs milliseconds of processor time and those that find no leader try all through the gap.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
/// Above every wait that is meant: the key's 20 seconds and the proxy's hold of 30.
const WRITER_TIMEOUT: Duration = Duration::from_secs(40);
/// As often as their logins leave the cores free; the writers give the finer grain.
pub const LATECOMER_EVERY: Duration = Duration::from_millis(100);
const LATECOMER_TIMEOUT: Duration = Duration::from_secs(30);
/// Writes and errors kept of one event, each; some 20 times what an event brings.
const LIMIT: usize = 200_000;
/// The lab keeps the hosts 90 to 99 free for peers.
const FIRST_HOST: u8 = 91;
const PORT: u16 = 5433;
const OBSERVER: &str = "proxy";

/// A way to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Contender {
    /// No proxy: both servers in the connection string, `target_session_attrs=read-write`.
    Direct,
    /// HAProxy, TCP check, the first member preferred.
    HaproxyTcp,
    /// HAProxy with Patroni's recommended REST check.
    HaproxyRest,
    /// HAProxy with the REST check every 100 ms.
    #[value(name = "haproxy-100ms")]
    Haproxy100Ms,
    /// This project.
    PgLeaderProxy,
}

impl Contender {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 5] =
        [Self::Direct, Self::HaproxyTcp, Self::HaproxyRest, Self::Haproxy100Ms, Self::PgLeaderProxy];

    /// Its name in tables, on the command line and in the rows it writes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::HaproxyTcp => "haproxy-tcp",
            Self::HaproxyRest => "haproxy-rest",
            Self::Haproxy100Ms => "haproxy-100ms",
            Self::PgLeaderProxy => "pg-leader-proxy",
        }
    }

    /// Whether it can be expected to find the leader wherever it is. The TCP check cannot, so nobody waits for it.
    #[must_use]
    pub fn finds_leader(self) -> bool {
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

/// The contenders at work. Dropping it ends them.
#[derive(Debug)]
pub struct Field {
    /// Which ones.
    pub contenders: Vec<Contender>,
    /// This project's proxy, if it takes part.
    pub proxy: Option<Proxy>,
    _haproxies: Vec<Haproxy>,
    _directory: TempDir,
}

impl Field {
    /// Starts them all. `proxy_settings` are `key=value`, for experiments; a run that counts has none.
    ///
    /// # Errors
    /// When one does not start; the error says what is missing.
    pub async fn start(
        cluster: &Cluster,
        contenders: &[Contender],
        proxy_settings: &[String],
    ) -> Result<Self> {
        let directory =
            TempDir::with_prefix("pglp-bench-").context("making a directory for HAProxy's files")?;
        let members: Vec<_> = cluster.members().cloned().collect();
        let mut haproxies = Vec::new();
        let mut proxy = None;
        for contender in contenders {
            if let Some(check) = contender.check() {
                let listen = address(cluster, *contender)?;
                let text = haproxy::configuration(check, listen, &members);
                haproxies
                    .push(Haproxy::start(&directory.path().join(contender.name()), listen, &text).await?);
            } else if *contender == Contender::PgLeaderProxy {
                proxy = Some(start_proxy(cluster, proxy_settings).await?);
            }
        }
        Ok(Self { contenders: contenders.to_vec(), proxy, _haproxies: haproxies, _directory: directory })
    }

    /// What a contender's writers do.
    ///
    /// # Errors
    /// When the contender has no address.
    pub fn writers(&self, cluster: &Cluster, contender: Contender) -> Result<Load> {
        let mut load = cluster.load(address(cluster, contender)?);
        if contender == Contender::Direct {
            load.config = direct(cluster);
        }
        load.config.application_name(contender.name());
        load.writers = WRITERS;
        load.pause = PAUSE;
        load.pause_after_error = PAUSE_AFTER_ERROR;
        load.timeout = WRITER_TIMEOUT;
        load.limit = LIMIT;
        Ok(load)
    }

    /// What a contender's latecomers do.
    ///
    /// # Errors
    /// As [`Field::writers`].
    pub fn latecomers(&self, cluster: &Cluster, contender: Contender) -> Result<Load> {
        let mut load = self.writers(cluster, contender)?;
        load.timeout = LATECOMER_TIMEOUT;
        Ok(load)
    }
}

/// The settings as they stand in the results.
#[must_use]
pub fn settings(cluster: &Cluster, proxy_settings: &[String]) -> Settings {
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let setup = cluster.options();
    Settings {
        writers: WRITERS,
        pause_ms: ms(PAUSE),
        pause_after_error_ms: ms(PAUSE_AFTER_ERROR),
        writer_timeout_ms: ms(WRITER_TIMEOUT),
        latecomer_every_ms: ms(LATECOMER_EVERY),
        latecomer_timeout_ms: ms(LATECOMER_TIMEOUT),
        patroni_seconds: [setup.ttl, setup.loop_wait, setup.retry_timeout],
        proxy_settings: proxy_settings.to_vec(),
    }
}

fn address(cluster: &Cluster, contender: Contender) -> Result<SocketAddr> {
    match contender {
        Contender::PgLeaderProxy => Ok(cluster.proxy_addresses(OBSERVER)?.write),
        Contender::Direct => {
            Ok(cluster.members().next().context("a cluster without members")?.postgres_direct)
        }
        Contender::HaproxyTcp | Contender::HaproxyRest | Contender::Haproxy100Ms => {
            let place = Contender::ALL.iter().position(|known| *known == contender).unwrap_or_default();
            Ok(cluster.spare_address(FIRST_HOST + u8::try_from(place)?, PORT))
        }
    }
}

/// libpq's rules for several hosts, which tokio-postgres follows: tried in order, the first that is read-write is used.
fn direct(cluster: &Cluster) -> Config {
    let mut config = Config::new();
    for member in cluster.members() {
        config.host(member.postgres_direct.ip().to_string()).port(member.postgres_direct.port());
    }
    config.user(APP.user).password(APP.password).dbname(DATABASE);
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    config
}

/// With the defaults of its keys, and straight to etcd: the lab's links would be one hop more than the others have.
async fn start_proxy(cluster: &Cluster, settings: &[String]) -> Result<Proxy> {
    let mut setup = cluster.proxy_command(OBSERVER)?;
    if let ProxyArguments::Config(text) = &mut setup.arguments {
        for (link, server) in cluster.etcd_endpoints(OBSERVER)?.iter().zip(cluster.etcd_direct()) {
            *text = text.replace(link, &format!("http://{server}"));
        }
    }
    for setting in settings {
        let (key, value) =
            setting.split_once('=').with_context(|| format!("{setting:?} is not KEY=VALUE"))?;
        let variable = format!("PGLP_{}", key.replace('.', "_").to_uppercase());
        setup.environment.push((variable, value.to_owned()));
    }
    Proxy::start(&setup).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contender_is_called_the_same_everywhere() {
        for contender in Contender::ALL {
            let value = contender.to_possible_value().unwrap();
            assert_eq!(value.get_name(), contender.name());
        }
    }
}
