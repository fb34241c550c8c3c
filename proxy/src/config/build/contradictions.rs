//! Contradictions: settings that are right each by itself and wrong together.

use std::net::{IpAddr, SocketAddr};

use pg_leader_proxy_core::ServerAddr;

use super::super::checked::{Config, LeaderSource, SslMode};
use super::super::values::show_duration;
use super::reader::Reader;

/// Adds every contradiction of `config` to the reader's errors.
pub(super) fn name(reader: &mut Reader<'_>, config: &Config) {
    addresses(reader, config);
    admin(reader, config);
    itself(reader, config);
    probe(reader, config);
    lease(reader, config);
}

/// Two listeners on one address would each take some of the clients.
fn addresses(reader: &mut Reader<'_>, config: &Config) {
    let read = config.read.iter().flat_map(|read| &read.listen);
    let listeners: Vec<(&str, SocketAddr)> = (config.write.listen.iter().map(|addr| ("write.listen", *addr)))
        .chain(read.map(|addr| ("read.listen", *addr)))
        .chain(config.admin.map(|addr| ("admin.listen", addr)))
        .collect();
    for (index, (key, addr)) in listeners.iter().enumerate() {
        for (other_key, other) in &listeners[..index] {
            if addr == other && addr.port() > 0 {
                reader
                    .fault(key, format!("`{other_key}` listens on {addr} as well; each needs its own port"));
            } else if key != other_key && covers(*other, *addr) {
                reader.fault(
                    key,
                    format!(
                        "`{other_key}` listens on {other}, which includes {addr}; each needs its own port"
                    ),
                );
            }
        }
    }
}

/// What restricts an address that is not listened on.
fn admin(reader: &mut Reader<'_>, config: &Config) {
    for key in ["admin.allowed_networks", "admin.token_file"] {
        if config.admin.is_none() && reader.is_given(key) {
            reader.fault(key, "has no effect while `admin.listen` is \"off\"".to_owned());
        }
    }
}

/// Whether both are on one port, and one of them is every address of the machine.
fn covers(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.port() > 0
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// A proxy that is named as a member would connect to itself, without end.
fn itself(reader: &mut Reader<'_>, config: &Config) {
    let LeaderSource::Members(members) = &config.leader_source else { return };
    let read = config.read.iter().flat_map(|read| &read.listen);
    for listen in config.write.listen.iter().chain(read) {
        for member in members.iter().filter(|member| leads_to(member, *listen)) {
            reader.fault(
                "cluster.members",
                format!(
                    "{member} is the proxy itself, which listens on {listen}; name the server's own port"
                ),
            );
        }
    }
}

fn leads_to(member: &ServerAddr, listen: SocketAddr) -> bool {
    let ip: Option<IpAddr> = member.host().parse().ok();
    let loopback = member.host() == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
    member.port() == listen.port()
        && (ip == Some(listen.ip())
            || loopback && (listen.ip().is_unspecified() || listen.ip().is_loopback()))
}

fn probe(reader: &mut Reader<'_>, config: &Config) {
    let probe = &config.probe;
    let limit = config.policy.options().max_probe_age;
    if probe.fast_interval > probe.interval {
        let interval = show_duration(probe.interval);
        reader.fault("probe.fast_interval", format!("is longer than `probe.interval`, which is {interval}"));
    }
    if probe.timeout > limit {
        let limit = show_duration(limit);
        reader.fault(
            "probe.timeout",
            format!(
                "is longer than `policy.max_probe_age`, which is {limit}: an answer that late would be too old"
            ),
        );
    }
    if probe.sslmode == SslMode::VerifyCa && probe.ca_file.is_none() {
        let why = "needs `probe.ca_file`, because the system's CAs sign certificates for anybody; or use \"verify-full\"";
        reader.fault("probe.sslmode", why.to_owned());
    }
    if probe.sslmode < SslMode::Require && probe.ca_file.is_some() {
        let why = "has no effect unless `probe.sslmode` is \"require\", \"verify-ca\" or \"verify-full\"";
        reader.fault("probe.ca_file", why.to_owned());
    }
    if probe.sslmode == SslMode::Disable && probe.identity.is_some() {
        reader.fault("probe.cert_file", "has no effect while `probe.sslmode` is \"disable\"".to_owned());
    }
}

/// Patroni's shortest allowed lease is 20 s; a margin of half of it leaves nothing to trust.
fn lease(reader: &mut Reader<'_>, config: &Config) {
    let LeaderSource::Etcd(etcd) = &config.leader_source else { return };
    let margin = config.policy.options().lease_margin;
    if margin.as_secs() > 10 {
        reader.fault("policy.lease_margin", "is longer than 10s: little would be left of a lease".to_owned());
    }
    if etcd.timeout + etcd.refresh_interval > std::time::Duration::from_secs(15) {
        let interval = show_duration(etcd.refresh_interval);
        reader.fault(
            "etcd.timeout",
            format!(
                "with `etcd.refresh_interval`, which is {interval}, makes more than 15s: the lease could not be \
                 confirmed before it ends"
            ),
        );
    }
}
