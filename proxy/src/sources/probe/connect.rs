//! Connections of probes to servers.

use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::ProbeReply;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::config::SslNegotiation;
use tokio_postgres::{Client, Config};

use super::error::ProbeError;
use super::login_watch::LoginWatch;
use super::query::{message, parse_reply};
use super::site::Site;
use super::tls::Tls;
use super::transport::{Encryption, Settled, Transport, ask_for_tls};
use crate::config::{self, SslMode};

/// Makes connections according to the configuration.
pub(super) struct Connector {
    pub(super) config: config::Probe,
    postgres: Config,
    tls: Tls,
    query: Arc<str>,
}

/// Whether to ask for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    TlsIfOffered,
    Tls,
}

/// What to try, and what to try when that does not succeed because of TLS, as libpq does.
const fn ways(sslmode: SslMode) -> (Way, Option<Way>) {
    match sslmode {
        SslMode::Disable => (Way::Plain, None),
        SslMode::Allow => (Way::Plain, Some(Way::Tls)),
        SslMode::Prefer => (Way::TlsIfOffered, Some(Way::Plain)),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Way::Tls, None),
    }
}

impl Connector {
    pub(super) fn new(config: config::Probe) -> Result<Self, ProbeError> {
        let tls = Tls::new(&config)?;
        let mut postgres = Config::new();
        postgres
            .user(&config.user)
            .dbname(&config.database)
            .application_name("pg-leader-proxy probe")
            // Whether there is TLS is settled before: see `Settled`.
            .ssl_mode(tokio_postgres::config::SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct);
        if let Some(password) = &config.password {
            postgres.password(password.expose());
        }
        let query = message(config.timeout).into();
        Ok(Self { config, postgres, tls, query })
    }

    /// The timeout of each step.
    pub(super) const fn limit(&self) -> Duration {
        self.config.timeout
    }

    /// Connects and logs in.
    pub(super) async fn connect(&self, site: &Site) -> Result<Connection, ProbeError> {
        let limit = self.limit();
        let slow = |_| ProbeError::Timeout { site: site.clone(), operation: "connect", limit };
        timeout(limit, self.connect_unbounded(site)).await.map_err(slow)?
    }

    async fn connect_unbounded(&self, site: &Site) -> Result<Connection, ProbeError> {
        let (first, second) = ways(self.config.sslmode);
        match (self.connect_by(first, site).await, second) {
            (Err(error), Some(second)) if error.may_succeed(second != Way::Plain) => {
                let both = |last| ProbeError::Twice { first: Box::new(error), last: Box::new(last) };
                self.connect_by(second, site).await.map_err(both)
            }
            (outcome, _) => outcome,
        }
    }

    async fn connect_by(&self, way: Way, site: &Site) -> Result<Connection, ProbeError> {
        let stream = self.open(way, site).await?;
        let encrypted = stream.is_encrypted();
        let watch = LoginWatch::new(self.config.require_auth.clone(), encrypted);
        let login = |source| ProbeError::login(site, encrypted, source);
        let transport = Transport::new(stream, watch);
        let (client, connection) = self.postgres.connect_raw(transport, Settled).await.map_err(login)?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Connection { site: site.clone(), query: Arc::clone(&self.query), client, driver })
    }

    /// Opens a connection, and encrypts it where that is the way.
    async fn open(&self, way: Way, site: &Site) -> Result<Encryption, ProbeError> {
        let unreachable = |source| ProbeError::Unreachable { site: site.clone(), source };
        let mut stream = TcpStream::connect(site.socket).await.map_err(unreachable)?;
        self.set_options(&stream).map_err(unreachable)?;
        if way == Way::Plain {
            return Ok(Encryption::None(stream));
        }
        match ask_for_tls(&mut stream).await.map_err(unreachable)? {
            b'S' => {
                let handshake = |source| ProbeError::Handshake { site: site.clone(), source };
                let stream = self.tls.handshake(stream, site.addr.host()).await.map_err(handshake)?;
                Ok(Encryption::Tls(stream))
            }
            b'N' if way == Way::TlsIfOffered => Ok(Encryption::None(stream)),
            b'N' => Err(ProbeError::NoTls { site: site.clone() }),
            other => {
                let what = format!("its answer to the request for TLS is byte {other}");
                Err(ProbeError::InvalidReply { site: site.clone(), what })
            }
        }
    }

    fn set_options(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        let keepalive = TcpKeepalive::new()
            .with_time(self.limit().max(Duration::from_secs(1)))
            .with_interval(Duration::from_secs(1))
            .with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(self.limit()))
    }
}

/// An open connection to a server.
pub(super) struct Connection {
    site: Site,
    query: Arc<str>,
    client: Client,
    /// The task that drives the connection; dropping this aborts it.
    driver: JoinSet<Result<(), tokio_postgres::Error>>,
}

impl Connection {
    /// Sends the query and parses the reply.
    pub(super) async fn query(&mut self, limit: Duration) -> Result<ProbeReply, ProbeError> {
        let site = || self.site.clone();
        match timeout(limit, self.client.simple_query(&self.query)).await {
            Ok(Ok(messages)) => {
                parse_reply(&messages).map_err(|what| ProbeError::InvalidReply { site: site(), what })
            }
            // The driver knows the server's error from before it closed the connection.
            Ok(Err(error)) if error.is_closed() => Err(self.ended().await),
            Ok(Err(source)) => Err(ProbeError::Query { site: site(), source }),
            Err(_) => Err(ProbeError::Timeout { site: site(), operation: "get its reply", limit }),
        }
    }

    /// Waits until the server closes the connection, and returns why.
    pub(super) async fn ended(&mut self) -> ProbeError {
        match self.driver.join_next().await {
            Some(Ok(Err(source))) if !source.is_closed() => {
                ProbeError::Query { site: self.site.clone(), source }
            }
            Some(_) | None => ProbeError::Closed { site: self.site.clone() },
        }
    }

    /// Closes the connection with a Terminate message, so that the server does not log a broken connection.
    pub(super) async fn close(self, limit: Duration) {
        let Self { client, mut driver, .. } = self;
        drop(client);
        // If the server does not take it in time, the connection is just dropped.
        let _ = timeout(limit, driver.join_next()).await;
    }
}
