//! An endpoint of etcd: connecting to it, and the requests to it, each with a timeout.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Channel, Client, ConnectOptions, GetOptions, GetResponse, LeaseTimeToLiveResponse, WatchOptions,
    WatchStream,
};
use tokio::time::timeout;
use tonic::transport;

use super::error::{EtcdError, LOG_IN, shown};
use super::tls::TlsFiles;
use crate::config;

/// The interval of HTTP/2 pings. etcd disconnects clients that ping more often than every 5 s
/// (`--grpc-keepalive-min-time`).
const PING_INTERVAL: Duration = Duration::from_secs(6);

/// The largest answer to accept, in bytes. The default of 4 MB is too small for a cluster whose `history` key lists
/// thousands of promotions.
const LARGEST_ANSWER: usize = 64 << 20;

/// How many keys to look at for a hint where Patroni's might be.
const KEYS: i64 = 10_000;

/// A connection to one endpoint.
#[derive(Clone)]
pub(super) struct Endpoint {
    client: Arc<Client>,
    url: String,
    limit: Duration,
    login_ignored: bool,
}

impl Endpoint {
    /// Connects to `url` and logs in; without a login, as Patroni does, if authentication is not enabled there.
    ///
    /// Without a login the TCP connection is only opened by the first request.
    pub(super) async fn connect(
        config: &config::Etcd,
        tls: &mut TlsFiles,
        url: &str,
    ) -> Result<Self, EtcdError> {
        match Self::connect_as(config, tls, url, config.login.as_ref()).await {
            Err(error) if error.is_authentication_disabled() => {
                let endpoint = Self::connect_as(config, tls, url, None).await?;
                Ok(Self { login_ignored: true, ..endpoint })
            }
            connected => connected,
        }
    }

    async fn connect_as(
        config: &config::Etcd,
        tls: &mut TlsFiles,
        url: &str,
        login: Option<&(String, config::Secret)>,
    ) -> Result<Self, EtcdError> {
        let mut options = ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
        if let Some((user, password)) = login {
            options = options.with_user(user, password.expose());
        }
        let operation = if login.is_some() { LOG_IN } else { "connect" };
        let endpoint = shown(url);
        let channel = Channel::Tonic(channel(config, tls, url).await?);
        // Boxed, because the future is as large as all services of the client together.
        let connecting = Box::pin(Client::from_channel(channel, Some(options)));
        let client = match timeout(config.timeout, connecting).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                return Err(EtcdError::RequestFailed { endpoint, operation, source: error.into() });
            }
            Err(_) => return Err(EtcdError::Timeout { endpoint, operation, limit: config.timeout }),
        };
        Ok(Self { client: Arc::new(client), url: endpoint, limit: config.timeout, login_ignored: false })
    }

    /// The URL, without credentials.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether there is a login that was not used, because authentication is not enabled.
    pub(super) const fn login_ignored(&self) -> bool {
        self.login_ignored
    }

    /// The names of the first keys below `prefix`.
    pub(super) async fn keys(&self, prefix: &str) -> Result<Vec<String>, EtcdError> {
        let options = GetOptions::new().with_prefix().with_keys_only().with_limit(KEYS);
        let mut client = self.client.kv_client();
        let found = self.limited("look for Patroni's keys", client.get(prefix, Some(options))).await?;
        Ok(found.kvs().iter().map(|kv| String::from_utf8_lossy(kv.key()).into_owned()).collect())
    }

    /// Reads everything below `prefix` linearizably.
    pub(super) async fn range(&self, prefix: &str) -> Result<GetResponse, EtcdError> {
        let mut client = self.client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
        let options = GetOptions::new().with_prefix();
        self.limited("read the cluster's keys", client.get(prefix, Some(options))).await
    }

    /// Reads the remaining time to live of a lease.
    pub(super) async fn time_to_live(&self, lease: i64) -> Result<LeaseTimeToLiveResponse, EtcdError> {
        let mut client = self.client.lease_client();
        self.limited("read the leader's lease", client.time_to_live(lease, None)).await
    }

    /// Watches everything below `prefix` from `revision` on.
    pub(super) async fn watch(&self, prefix: &str, revision: i64) -> Result<WatchStream, EtcdError> {
        let mut client = self.client.watch_client().max_decoding_message_size(LARGEST_ANSWER);
        let options = WatchOptions::new().with_prefix().with_start_revision(revision).with_progress_notify();
        self.limited("watch the cluster's keys", client.watch(prefix, Some(options))).await
    }

    /// The version of the server.
    pub(super) async fn version(&self) -> Result<String, EtcdError> {
        let mut client = self.client.maintenance_client();
        let status = self.limited("ask for the version", client.status()).await?;
        Ok(status.version().to_owned())
    }

    /// Adds the timeout to a request, and the operation to its error.
    async fn limited<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, EtcdError> {
        match timeout(self.limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failed(operation, error)),
            Err(_) => Err(EtcdError::Timeout { endpoint: self.url.clone(), operation, limit: self.limit }),
        }
    }

    /// An error of this endpoint during `operation`.
    pub(super) fn failed(&self, operation: &'static str, error: etcd_client::Error) -> EtcdError {
        EtcdError::RequestFailed { endpoint: self.url.clone(), operation, source: error.into() }
    }
}

/// The connection, which is opened by the first request.
async fn channel(
    config: &config::Etcd,
    tls: &mut TlsFiles,
    url: &str,
) -> Result<transport::Channel, EtcdError> {
    let invalid = |source: transport::Error| EtcdError::RequestFailed {
        endpoint: shown(url),
        operation: "connect",
        source: etcd_client::Error::from(source).into(),
    };
    let endpoint = transport::Endpoint::from_shared(url.to_owned())
        .map_err(invalid)?
        .connect_timeout(config.timeout)
        // Pings without an open stream would count against the client. The watch is always open.
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(config.timeout)
        .keep_alive_while_idle(true)
        .tcp_keepalive(Some(PING_INTERVAL));
    if url.starts_with("https://") {
        let tls = tls.read().await?;
        return Ok(endpoint.connect_with_connector_lazy(tls.into_connector(config.timeout, PING_INTERVAL)));
    }
    Ok(endpoint.connect_lazy())
}
