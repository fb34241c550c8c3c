//! A one-time check of an endpoint, for `pg-leader-proxy check`.

use std::collections::BTreeSet;
use std::time::Duration;

use pg_leader_proxy_core::MemberName;

use super::connect::Endpoint;
use super::error::EtcdError;
use super::nearby;
use super::read::read;
use super::snapshot::{Snapshot, Values};
use super::tls::TlsFiles;
use crate::config;

/// Reading any lease, even one that does not exist, shows whether leases may be read.
const NO_LEASE: i64 = 1;

/// What a check of an endpoint found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReport {
    /// The endpoint's URL, without credentials.
    pub endpoint: String,
    /// The version of etcd, if it could be read.
    pub version: Option<String>,
    /// Whether this version may return a wrong time to live after an election (etcd#17506): before 3.4.32, or 3.5 before
    /// 3.5.13.
    pub outdated: bool,
    /// The keys of the cluster, without the prefix.
    pub keys: BTreeSet<String>,
    /// Where Patroni's keys might be, if none of these is one.
    pub hint: Option<String>,
    /// Whether the login was not used, because authentication is not enabled.
    pub login_ignored: bool,
    /// The holder of the leader key.
    pub leader: Option<MemberName>,
    /// The remaining lease of the leader key.
    pub lease: Option<Duration>,
}

/// Does everything once at `endpoint` that the proxy will do there: connect, log in, read the keys, read a lease, open
/// the watch.
///
/// # Errors
/// [`EtcdError`], which says what failed and why.
pub async fn check_endpoint(config: &config::Etcd, endpoint: &str) -> Result<EndpointReport, EtcdError> {
    let endpoint = Endpoint::connect(config, &mut TlsFiles::new(&config.tls), endpoint).await?;
    let found = read(endpoint.clone(), config.prefix.clone()).await?;
    if found.lease.is_none() {
        endpoint.time_to_live(NO_LEASE).await?;
    }
    drop(endpoint.watch(&config.prefix, found.revision + 1).await?);
    let version = endpoint.version().await.ok();
    let snapshot = Snapshot::of(&mut Values::new(config), &found.kvs, found.revision);
    let hint = if snapshot.is_empty() { Some(nearby::hint(&endpoint, &config.prefix).await) } else { None };
    let keys = found.kvs.iter().map(|kv| String::from_utf8_lossy(kv.key()).into_owned());
    Ok(EndpointReport {
        endpoint: endpoint.url().to_owned(),
        outdated: version.as_deref().is_some_and(is_outdated),
        version,
        keys: keys.map(|key| key.strip_prefix(&config.prefix).unwrap_or(&key).to_owned()).collect(),
        hint,
        login_ignored: endpoint.login_ignored(),
        leader: snapshot.leader.map(|held| held.key.holder),
        lease: found.lease.map(|lease| lease.fact),
    })
}

fn is_outdated(version: &str) -> bool {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or_default());
    let mut part = || parts.next().unwrap_or_default();
    let version = (part(), part(), part());
    version < (3, 4, 32) || (version.0, version.1) == (3, 5) && version.2 < 13
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outdated_versions_are_recognized() {
        for outdated in ["3.3.27", "3.4.23", "3.4.31", "3.5.0", "3.5.12", "3.5.12-rc.1"] {
            assert!(is_outdated(outdated), "{outdated}");
        }
        for fine in ["3.4.32", "3.4.42", "3.5.13", "3.6.0", "4.0.0"] {
            assert!(!is_outdated(fine), "{fine}");
        }
    }
}
