//! The checked configuration: what the settings mean, with nothing left to check.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::x509::X509;
use pg_leader_proxy_core::{Policy, ServerAddr};

use super::renamed::Renamed;
use super::require_auth::RequireAuth;
use crate::files::FileReader;
use crate::networks::Networks;
use crate::tls;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the cluster is called on the page, in metrics and in log lines.
    pub cluster: String,
    /// How the leader is learned.
    pub leader_source: LeaderSource,
    /// How servers are probed.
    pub probe: Probe,
    /// What the router may conclude.
    pub policy: Policy,
    /// The route for sessions that write.
    pub write: Route,
    /// The route for sessions that only read.
    pub read: Option<Route>,
    /// Limits and time-outs of every session.
    pub session: Session,
    /// The address of the admin page, metrics and health answers.
    pub admin: Option<SocketAddr>,
    /// Who is answered there.
    pub admin_access: AdminAccess,
    /// Where commands of an operator arrive.
    pub control: Option<ControlSocket>,
    /// How to log.
    pub log: Log,
    /// Old names that are still used; each is worth a warning.
    pub renamed: Vec<Renamed>,
}

/// How the leader is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderSource {
    /// From Patroni's keys in etcd and from the servers.
    Etcd(Box<Etcd>),
    /// From the servers alone. These are all of them.
    Members(Vec<ServerAddr>),
}

/// Patroni's keys in etcd, and how to reach them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// The prefix of this cluster's keys, with a slash at both ends: `/service/<scope>/`, Citus: `/service/<scope>/<group>/`.
    pub prefix: String,
    /// The endpoints as URLs; at least one.
    pub endpoints: Vec<String>,
    /// User and password, when etcd asks for them.
    pub login: Option<(String, Secret)>,
    /// How to speak TLS with `https` endpoints.
    pub tls: EtcdTls,
    /// How often everything is read again; the lease is confirmed more often when little of it is left.
    pub refresh_interval: Duration,
    /// How long before its end a lease is no longer trusted (`policy.lease_margin`): it is read in time before that.
    pub lease_margin: Duration,
    /// How long one request may take before the next endpoint is tried.
    pub timeout: Duration,
    /// Whether `proxy_url` of a member is preferred to its `conn_url`.
    pub prefer_proxy_url: bool,
    /// From the address that a member publishes to the one that reaches it, for members behind NAT.
    pub address_map: BTreeMap<ServerAddr, ServerAddr>,
}

/// Certificates for etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// The CA certificate (PEM) for the endpoints. Without it the system's certificates are used.
    pub ca_file: Option<PathBuf>,
    /// The client certificate and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How servers are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The monitoring user; it needs no privilege beyond the defaults.
    pub user: String,
    /// Its password, where the server wants one.
    pub password: Option<Secret>,
    /// The database it connects to.
    pub database: String,
    /// How often each server is probed in normal operation.
    pub interval: Duration,
    /// How often a new leader is probed while clients wait for it.
    pub fast_interval: Duration,
    /// How often a new connection is tried beside the kept one.
    pub connect_interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Whether to speak TLS, and what to verify.
    pub sslmode: SslMode,
    /// The CA certificate for the servers. Without it the system's certificates are used.
    pub ca_file: Option<PemFile>,
    /// The CA certificates of the system, if a server's certificate is to be verified and there is no CA file.
    pub system_ca: SystemCa,
    /// The client certificate, with intermediate ones behind it, and its key.
    pub identity: Option<(PemFile, PemFile)>,
    /// How the server may ask for authentication.
    pub require_auth: RequireAuth,
}

/// A file in PEM form, read when the configuration was, so that a reload notices a file that was replaced.
#[derive(Clone, PartialEq, Eq)]
pub struct PemFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub pem: Vec<u8>,
}

impl PemFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(files: &FileReader, path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), pem: files.read(path)? })
    }
}

impl fmt::Debug for PemFile {
    /// Without what it holds, which may be a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// CA certificates of the system, read when the configuration was, so that a reload notices a change.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SystemCa(Vec<Vec<u8>>);

impl SystemCa {
    /// Reads those that there are now.
    pub(super) fn read(files: &FileReader) -> Self {
        Self(tls::system_authorities(files).iter().filter_map(|found| found.to_der().ok()).collect())
    }

    /// The certificates.
    ///
    /// # Errors
    /// If OpenSSL takes back that they are certificates.
    pub(crate) fn certificates(&self) -> Result<Vec<X509>, ErrorStack> {
        self.0.iter().map(|der| X509::from_der(der)).collect()
    }
}

impl fmt::Debug for SystemCa {
    /// Without the certificates, of which there are many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SystemCa({})", self.0.len())
    }
}

/// libpq's `sslmode`, for probes. The stricter one is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS if the server admits nobody without it, unverified.
    Allow,
    /// TLS if the server offers it and admits the user with it, unverified.
    Prefer,
    /// TLS, verified only if there is a CA file, and then as by `verify-ca`.
    Require,
    /// TLS, with a certificate that the CA signed.
    VerifyCa,
    /// TLS, with a certificate that the CA signed for this host.
    VerifyFull,
}

/// A route: where it listens, and how clients wait for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The addresses to listen on; at least one.
    pub listen: Vec<SocketAddr>,
    /// The networks of clients that may connect; `None` for all.
    pub allowed_networks: Option<Networks>,
    /// The networks of balancers, whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Networks,
    /// How long a client waits for a server; `None` for as long as a failover takes, by Patroni's `ttl`.
    pub hold_timeout: Option<Duration>,
    /// How many clients may wait at once.
    pub max_held: usize,
    /// How many clients may log in to servers at once; the others wait in the order in which they arrived.
    pub max_concurrent_logins: usize,
}

/// Limits and time-outs of every session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// How many sessions there may be at once, over both routes.
    pub max_sessions: usize,
    /// How many sessions one client address may have; `None` for no limit.
    pub max_sessions_per_address: Option<u32>,
    /// How many new connections one client address may open in a minute; `None` for no limit.
    pub max_connections_per_minute_per_address: Option<u32>,
    /// How long a client may take to send its first packet.
    pub startup_timeout: Duration,
    /// How long a server may take to accept a connection, and how long others wait for it to answer the first packet.
    pub connect_timeout: Duration,
    /// How long a connection may be idle before TCP sends a keepalive probe.
    pub keepalive: Duration,
    /// How long sent bytes may stay unacknowledged before TCP gives up (`TCP_USER_TIMEOUT`). Linux counts a closed window
    /// too, so this also bounds how long a client may pause in the middle of a result.
    pub user_timeout: Duration,
    /// How long sessions may go on after a request to stop.
    pub drain_timeout: Duration,
    /// How many threads serve clients.
    pub workers: usize,
    /// Whether other proxies may listen on the same addresses.
    pub so_reuseport: bool,
}

/// Who is answered on the admin address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminAccess {
    /// The networks from which connections are answered; `None` for all.
    pub allowed_networks: Option<Networks>,
    /// The token that a request must carry, unless it asks for a health check.
    pub token: Option<Secret>,
}

/// The control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlSocket {
    /// Its path.
    pub path: PathBuf,
    /// The group whose members may use it, by name or number, beside root and the proxy's own user.
    pub group: Option<String>,
}

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// What to log, in the syntax of `tracing_subscriber::EnvFilter`, such as `info` or `pg_leader_proxy=debug`.
    pub filter: String,
    /// Whether each session's end is logged.
    pub sessions: bool,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// A password, which debug output does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `secret`.
    pub const fn new(secret: String) -> Self {
        Self(secret)
    }

    /// Reads the secret that a file holds. One newline at its end is not part of it: editors and `echo` leave one.
    ///
    /// # Errors
    /// Why it cannot be read, or that it is empty.
    pub fn read(files: &FileReader, path: &Path) -> Result<Self, String> {
        let text = files.read_to_string(path).map_err(|error| format!("the file cannot be read: {error}"))?;
        match without_newline(&text) {
            "" => Err("the file is empty".to_owned()),
            secret => Ok(Self::new(secret.to_owned())),
        }
    }

    /// The password itself, for the login that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The text without the newline at its end.
pub(super) fn without_newline(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}
