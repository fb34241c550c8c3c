//! A PostgreSQL session that ends when it is dropped.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

use crate::patroni::Credentials;

/// A client and the task that drives its connection.
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
}

impl Session {
    /// Connects and logs in. Only connecting is bounded, by the configuration's `connect_timeout`.
    ///
    /// # Errors
    /// PostgreSQL's own.
    pub async fn open(config: &Config) -> std::result::Result<Self, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(async move {
            // The client reports the same error.
            let _ = connection.await;
        });
        Ok(Self { client, connection })
    }

    /// Connects and logs in within a time.
    ///
    /// # Errors
    /// When it fails or takes longer.
    pub async fn open_within(config: &Config, within: Duration) -> Result<Self> {
        let hosts = config.get_hosts();
        tokio::time::timeout(within, Self::open(config))
            .await
            .with_context(|| format!("no session with {hosts:?} within {within:?}"))?
            .with_context(|| format!("connecting to {hosts:?}"))
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Dropping only the client would leave the socket open while its link is paused.
        self.connection.abort();
    }
}

/// How to log in at an address.
pub(crate) fn config(address: SocketAddr, credentials: &Credentials, database: &str) -> Config {
    let mut config = Config::new();
    config
        .host(address.ip().to_string())
        .port(address.port())
        .user(credentials.user)
        .password(credentials.password)
        .dbname(database)
        .application_name("lab");
    config
}
