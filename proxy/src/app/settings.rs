//! Settings: what each part of the process takes from the configuration, and what a reload may change.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, bail};
use pg_leader_proxy_core::{Member, MemberName, ServerAddr};

use crate::admission::{Access, AddressLimits, GateLimits, RouteAccess};
use crate::config::{self, Config, LeaderSource};
use crate::net::SocketOptions;
use crate::route::RouteKind;
use crate::session::{ClientLimits, SessionSettings};

/// A member without etcd: its address is its name.
pub(crate) fn static_member(addr: &ServerAddr) -> (MemberName, Member) {
    (MemberName::new(&addr.to_string()), Member { addr: addr.clone(), no_load_balance: false })
}

pub(super) fn etcd_config(config: &Config) -> Option<config::Etcd> {
    match &config.leader_source {
        LeaderSource::Etcd(etcd) => Some((**etcd).clone()),
        LeaderSource::Members(_) => None,
    }
}

pub(super) fn settings(config: &Config, limits: ClientLimits) -> SessionSettings {
    let session = &config.session;
    SessionSettings {
        limits,
        access: access(config),
        startup_timeout: session.startup_timeout,
        connect_timeout: session.connect_timeout,
        write_hold_timeout: config.write.hold_timeout,
        read_hold_timeout: config.read.as_ref().and_then(|read| read.hold_timeout).unwrap_or_default(),
        socket: SocketOptions { keepalive: session.keepalive, user_timeout: session.user_timeout },
        log_sessions: config.log.sessions,
    }
}

/// Who may connect; `None` if nothing restricts that.
fn access(config: &Config) -> Option<Arc<Access>> {
    let of = |route: &config::Route| RouteAccess {
        allowed: route.allowed_networks.clone(),
        balancers: route.proxy_protocol_from.clone(),
    };
    let access = Access {
        write: of(&config.write),
        read: config.read.as_ref().map(of).unwrap_or_default(),
        limits: AddressLimits {
            sessions: config.session.max_sessions_per_address,
            connections_per_minute: config.session.max_connections_per_minute_per_address,
        },
    };
    (access != Access::default()).then(|| Arc::new(access))
}

pub(super) fn gate_limits(config: &Config) -> [GateLimits; 2] {
    [Some(&config.write), config.read.as_ref()].map(|route| {
        let route = route.unwrap_or(&config.write);
        GateLimits { max_held: route.max_held, max_concurrent_logins: route.max_concurrent_logins }
    })
}

/// Every address to listen on, with its route.
pub(super) fn routes(config: &Config) -> Vec<(RouteKind, SocketAddr)> {
    let write = config.write.listen.iter().map(|addr| (RouteKind::Write, *addr));
    let read = config.read.iter().flat_map(|read| &read.listen).map(|addr| (RouteKind::Read, *addr));
    write.chain(read).collect()
}

/// Every address to listen on, with its block of the configuration.
pub(super) fn listening(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let routes = routes(config).into_iter().map(|(route, addr)| (route.code(), addr));
    routes.chain(admin_address(config)).collect()
}

/// The admin address, with its block of the configuration.
pub(super) fn admin_address(config: &Config) -> Option<(&'static str, SocketAddr)> {
    config.admin.map(|addr| ("admin", addr))
}

/// Rejects changes that cannot be applied while the process runs, all of them at once.
pub(super) fn check_reloadable(before: &Config, after: &Config, inherited: &[SocketAddr]) -> Result<()> {
    let path = |config: &Config| config.control.as_ref().map(|control| control.path.clone());
    let group = |config: &Config| config.control.as_ref().and_then(|control| control.group.clone());
    let mut refused = Vec::new();
    let wanted = routes(after);
    for (route, addr) in routes(before) {
        if inherited.contains(&addr) && !wanted.contains(&(route, addr)) {
            // Clients would wait in the backlog of a socket that the supervisor keeps open and no process accepts from.
            refused.push(format!(
                "{}.listen: {addr} is kept open for this process, and can only go with a restart",
                route.code()
            ));
        }
    }
    refused.extend(other_cluster(before, after).map(str::to_owned));
    let only_with_a_restart = [
        ("session.workers", before.session.workers != after.session.workers),
        ("session.so_reuseport", before.session.so_reuseport != after.session.so_reuseport),
        ("admin.listen", before.admin != after.admin),
        ("control.socket", path(before) != path(after)),
        ("control.group", group(before) != group(after)),
        ("log.format", before.log.format != after.log.format),
    ];
    let changed = only_with_a_restart.into_iter().filter(|(_, changed)| *changed);
    refused.extend(changed.map(|(key, _)| format!("{key} can only change with a restart")));
    if refused.is_empty() { Ok(()) } else { bail!("{}", refused.join("; ")) }
}

/// Why `after` is about another cluster, if it is.
fn other_cluster(before: &Config, after: &Config) -> Option<&'static str> {
    let same = match (&before.leader_source, &after.leader_source) {
        (LeaderSource::Etcd(before), LeaderSource::Etcd(after)) => before.prefix == after.prefix,
        (LeaderSource::Members(_), LeaderSource::Members(_)) => before.cluster == after.cluster,
        _ => return Some("a change between etcd.endpoints and cluster.members takes a restart"),
    };
    (!same).then_some(
        "cluster.scope, cluster.namespace and cluster.citus_group can only change with a restart: the sessions belong \
         to the cluster that they name",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::config::{Change, Given, KEYS, Key, Kind, Origins, Raw};

    /// Two values of a key, both possible beside the first values of all other keys.
    fn values(key: &Key, files: [&str; 2]) -> [String; 2] {
        let two = |one: &str, other: &str| [one.to_owned(), other.to_owned()];
        match (key.path, key.kind) {
            ("probe.sslmode", _) => two("verify-full", "require"),
            ("admin.token_file", _) => files.map(|file| format!("{file}.token")),
            ("probe.require_auth", _) => two("scram-sha-256", "none"),
            ("session.connect_timeout" | "etcd.timeout" | "probe.timeout", _) => two("2s", "3s"),
            ("probe.interval", _) => two("300ms", "400ms"),
            ("log.filter", _) => two("info", "debug"),
            (_, Kind::Text) => two("ONE", "OTHER"),
            (_, Kind::Path) => files.map(str::to_owned),
            (_, Kind::Duration(least, _)) if least.as_secs() == 0 && key.path.ends_with("_interval") => {
                two("200ms", "210ms")
            }
            (_, Kind::Duration(..)) => two("4s", "5s"),
            (_, Kind::Size) => two("1MiB", "2MiB"),
            (_, Kind::Count(..)) => two("3", "4"),
            (_, Kind::Boolean) => two("false", "true"),
            (_, Kind::Choice(choices)) => two(choices[0], choices[1]),
            (_, Kind::Address) => two("127.0.0.1:9433", "127.0.0.1:9434"),
            ("write.listen", _) => two("127.0.0.1:5433", "127.0.0.1:5435"),
            (_, Kind::Addresses) => two("127.0.0.1:5434", "127.0.0.1:5436"),
            (_, Kind::Servers) => two("a:5432", "b:5432"),
            (_, Kind::Networks) => two("10.0.0.0/8", "10.0.0.0/8,fd00::/8"),
            (_, Kind::Urls) => two("https://a:2379", "https://b:2379"),
            (_, Kind::ServerMap) => two("a:1=b:1", "a:1=c:1"),
        }
    }

    fn load(given: &BTreeMap<&'static str, String>) -> Config {
        let given =
            given.iter().map(|(path, text)| Given { path: (*path).to_owned(), raw: Raw::Text(text.clone()) });
        let environment = ["ONE", "OTHER"].map(|name| (name.to_owned(), format!("the password in {name}")));
        let origins =
            Origins { given: given.collect(), environment: environment.into(), ..Origins::default() };
        Config::load(&origins).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// The first value of every key that can stand beside the one at `path`.
    fn beside(path: &str, files: [&str; 2]) -> BTreeMap<&'static str, String> {
        let without_etcd = path == "cluster.members";
        let fits = |key: &&'static Key| match key.path {
            other if other == path => true,
            "cluster.members" => false,
            other if without_etcd => !matches!(key.block(), "cluster" | "etcd") && !other.ends_with("_env"),
            "etcd.password_env" | "probe.password_env" => false,
            other => format!("{}_env", other.trim_end_matches("_file")) != path,
        };
        let keys = KEYS.iter().filter(fits);
        keys.map(|key| (key.path, values(key, files)[0].clone())).collect()
    }

    #[test]
    fn a_reload_puts_in_force_what_the_table_of_keys_says() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["one", "other"].map(|name| directory.path().join(name).to_str().unwrap().to_owned());
        // One key, so that a certificate of one file fits the key of the other.
        let key = KeyPair::generate().unwrap();
        for file in &files {
            let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
            fs::write(file, certificate.pem() + &key.serialize_pem()).unwrap();
            fs::write(format!("{file}.token"), file.rsplit('/').next().unwrap()).unwrap();
        }
        let files = [files[0].as_str(), files[1].as_str()];
        for key in KEYS {
            let mut given = beside(key.path, files);
            let before = load(&given);
            given.insert(key.path, values(key, files)[1].clone());
            let after = load(&given);
            assert_ne!(before, after, "{} changes nothing", key.path);
            let reloadable = check_reloadable(&before, &after, &[]);
            match key.change {
                Change::Reload => assert!(reloadable.is_ok(), "{}: {reloadable:?}", key.path),
                Change::Restart => {
                    let refusal = reloadable.unwrap_err().to_string();
                    assert!(refusal.contains(key.path), "{}: {refusal}", key.path);
                }
            }
        }
    }
}
