//! Connections of probes to servers.

use std::time::Duration;

use pg_leader_proxy_core::ProbeReply;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::ProbeError;
use super::query::{QUERY, parse_reply};
use super::site::Site;
use super::tls;
use crate::config::{self, SslMode};

/// Makes connections according to the configuration.
pub(super) struct Connector {
    pub(super) config: config::Probe,
    postgres: Config,
    tls: MakeRustlsConnect,
}

impl Connector {
    pub(super) fn new(config: config::Probe) -> Result<Self, ProbeError> {
        let tls = tls::connector(&config)?;
        let mut postgres = Config::new();
        postgres
            .user(&config.user)
            .dbname(&config.database)
            .application_name("pg-leader-proxy probe")
            // If the proxy disappears, the server must not continue the query.
            .options(format!("-c statement_timeout={}", config.timeout.as_millis().max(1)))
            .ssl_mode(match config.sslmode {
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                    tokio_postgres::config::SslMode::Require
                }
            });
        if let Some(password) = &config.password {
            postgres.password(password.expose());
        }
        Ok(Self { config, postgres, tls })
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
        let unreachable = |source| ProbeError::Unreachable { site: site.clone(), source };
        let stream = TcpStream::connect(site.socket).await.map_err(unreachable)?;
        self.set_options(&stream).map_err(unreachable)?;
        let login = |source| ProbeError::Login { site: site.clone(), source };
        let Ok(tls) = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut self.tls.clone(), site.addr.host());
        let (client, connection) = self.postgres.connect_raw(stream, tls).await.map_err(login)?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Connection { site: site.clone(), client, driver })
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
    client: Client,
    /// The task that drives the connection; dropping this aborts it.
    driver: JoinSet<Result<(), tokio_postgres::Error>>,
}

impl Connection {
    /// Sends the query and parses the reply.
    pub(super) async fn query(&mut self, limit: Duration) -> Result<ProbeReply, ProbeError> {
        let site = || self.site.clone();
        match timeout(limit, self.client.simple_query(QUERY)).await {
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
