//! Patroni's configuration file for one member.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use crate::options::ClusterOptions;

/// Name and password of a PostgreSQL user.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user.
    pub user: &'static str,
    /// Its password.
    pub password: &'static str,
}

/// The superuser, which Patroni connects as.
pub const SUPERUSER: Credentials = Credentials { user: "postgres", password: "lab-super" };
/// The user that replicas connect as.
const REPLICATOR: Credentials = Credentials { user: "replicator", password: "lab-replica" };

/// What differs from member to member.
pub(crate) struct MemberSettings<'a> {
    pub(crate) name: &'a str,
    /// Where PostgreSQL and the REST interface listen.
    pub(crate) listen: (SocketAddr, SocketAddr),
    /// Where others reach them.
    pub(crate) connect: (SocketAddr, SocketAddr),
    /// etcd, through the member's own links.
    pub(crate) etcd: &'a [SocketAddr],
    pub(crate) directory: &'a Path,
    pub(crate) postgres_bin: &'a Path,
}

/// The whole file.
pub(crate) fn configuration(options: &ClusterOptions, member: &MemberSettings<'_>) -> String {
    let etcd: Vec<String> = member.etcd.iter().map(|address| format!("'{address}'")).collect();
    let ClusterOptions { scope, ttl, loop_wait, retry_timeout, failsafe_mode, .. } = options;
    let ClusterOptions { synchronous_mode, synchronous_mode_strict, .. } = options;
    let directory = member.directory.display();
    let Credentials { user: superuser, password: super_password } = SUPERUSER;
    let Credentials { user: replicator, password: replica_password } = REPLICATOR;
    // use_proxies: otherwise Patroni asks etcd for its servers' addresses and bypasses the links.
    // checkpoint: fast: otherwise the checkpoint takes minutes, and the base backup of a replica waits for it.
    // use_unix_socket: Patroni and its server share a host, so no partition separates them.
    format!(
        "scope: '{scope}'
name: '{name}'
restapi:
  listen: '{rest_listen}'
  connect_address: '{rest_connect}'
etcd3:
  hosts: [{etcd}]
  use_proxies: true
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: {loop_wait}
    retry_timeout: {retry_timeout}
    maximum_lag_on_failover: 1048576
    failsafe_mode: {failsafe_mode}
    synchronous_mode: {synchronous_mode}
    synchronous_mode_strict: {synchronous_mode_strict}
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters:
{parameters}
  initdb:
  - encoding: UTF8
  - locale: C
  - data-checksums
postgresql:
  listen: '{listen}'
  connect_address: '{connect}'
  data_dir: '{directory}/data'
  bin_dir: '{bin}'
  pgpass: '{directory}/pgpass'
  use_unix_socket: true
  use_unix_socket_repl: true
  basebackup:
    checkpoint: fast
  authentication:
    superuser: {{username: {superuser}, password: {super_password}}}
    replication: {{username: {replicator}, password: {replica_password}}}
  parameters:
    unix_socket_directories: '{directory}'
{tls}  pg_hba:
  - local all all scram-sha-256
  - local replication all scram-sha-256
  - host all all 127.0.0.0/8 scram-sha-256
  - host replication all 127.0.0.0/8 scram-sha-256
",
        name = member.name,
        rest_listen = member.listen.1,
        rest_connect = member.connect.1,
        etcd = etcd.join(", "),
        parameters = parameters(options),
        listen = member.listen.0,
        connect = member.connect.0,
        bin = member.postgres_bin.display(),
        tls = if options.tls { tls(member.directory) } else { String::new() },
    )
}

/// Settings for fast tests. `fsync: off` loses nothing here: the lab kills processes, never the machine, and the kernel
/// keeps what a killed process has written.
fn parameters(options: &ClusterOptions) -> String {
    let max_connections = options.max_connections.to_string();
    let mut all: Vec<(&str, &str)> = vec![
        ("fsync", "off"),
        ("shared_buffers", "64MB"),
        ("max_connections", &max_connections),
        ("max_wal_size", "512MB"),
        ("wal_keep_size", "128MB"),
        ("wal_log_hints", "on"),
        ("max_wal_senders", "10"),
        ("max_replication_slots", "10"),
        ("hot_standby", "on"),
        // A new replica's first attempt always fails: the leader creates its slot only in the next round.
        ("wal_retrieve_retry_interval", "500ms"),
        ("password_encryption", "scram-sha-256"),
        ("log_connections", "on"),
        ("log_line_prefix", "%m [%p] %q%u@%d %h "),
        ("jit", "off"),
    ];
    for (name, value) in &options.parameters {
        all.retain(|(known, _)| known != name);
        all.push((name, value));
    }
    all.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "        {name}: '{}'", value.replace('\'', "''"));
        text
    })
}

fn tls(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "    ssl: 'on'\n    ssl_cert_file: '{directory}/server.crt'\n    ssl_key_file: '{directory}/server.key'\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_parameter_overrides_the_labs() {
        let options = ClusterOptions {
            parameters: vec![("fsync".to_owned(), "on".to_owned())],
            ..ClusterOptions::default()
        };
        let text = parameters(&options);
        assert!(text.contains("fsync: 'on'") && !text.contains("fsync: 'off'"), "{text}");
    }
}
