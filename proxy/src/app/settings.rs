//! The plan: what each part of the process is given of a configuration, and what a reload may change of it.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use pg_leader_proxy_core::{Member, MemberName, ServerAddr};

use crate::config::{self, Config, Witnesses};
use crate::counters::RouteKind;
use crate::gate::GateLimits;
use crate::session::SessionSettings;

pub(super) fn static_member(addr: &ServerAddr) -> (MemberName, Member) {
    (MemberName::new(&addr.to_string()), Member { addr: addr.clone(), no_load_balance: false })
}

pub(super) fn etcd_config(config: &Config) -> Option<config::Etcd> {
    match &config.witnesses {
        Witnesses::Etcd(etcd) => Some((**etcd).clone()),
        Witnesses::Members(_) => None,
    }
}

pub(super) fn settings(config: &Config) -> SessionSettings {
    SessionSettings {
        session: config.session,
        write_hold: config.write.hold_timeout,
        read_hold: config.read.as_ref().map_or(config.write.hold_timeout, |read| read.hold_timeout),
    }
}

pub(super) fn gate_limits(config: &Config) -> [GateLimits; 2] {
    [Some(&config.write), config.read.as_ref()].map(|route| {
        let route = route.unwrap_or(&config.write);
        GateLimits { max_held: route.max_held, max_concurrent_logins: route.max_concurrent_logins }
    })
}

/// Every address that a route listens on, with its route.
pub(super) fn routes(config: &Config) -> Vec<(RouteKind, SocketAddr)> {
    let write = config.write.listen.iter().map(|addr| (RouteKind::Write, *addr));
    let read = config.read.iter().flat_map(|read| &read.listen).map(|addr| (RouteKind::Read, *addr));
    write.chain(read).collect()
}

/// What cannot change while the process runs, because sessions hang on it or somebody holds its address.
pub(super) fn check_reloadable(before: &Config, after: &Config, inherited: &[SocketAddr]) -> Result<()> {
    let wanted = routes(after);
    for (route, addr) in routes(before) {
        if inherited.contains(&addr) && !wanted.contains(&(route, addr)) {
            // Its clients would wait in the backlog of a socket that is open and from which nobody accepts.
            bail!(
                "{}.listen: {addr} is kept open for this process, and can only go with a restart",
                route.code()
            );
        }
    }
    match (&before.witnesses, &after.witnesses) {
        (Witnesses::Etcd(before), Witnesses::Etcd(after)) if before.prefix == after.prefix => {}
        (Witnesses::Members(_), Witnesses::Members(_)) => {}
        _ => bail!(
            "the cluster (cluster.scope, cluster.namespace, etcd or members) can only change with a restart"
        ),
    }
    if before.session.workers != after.session.workers {
        bail!("session.workers can only change with a restart");
    }
    if before.admin != after.admin {
        bail!("admin.listen can only change with a restart");
    }
    if before.log != after.log {
        bail!("log.format and log.filter can only change with a restart");
    }
    Ok(())
}
