//! One endpoint of etcd: how to reach it, and every question asked of it, each with its limit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, GetResponse, Identity, LeaseTimeToLiveResponse,
    TlsOptions, WatchOptions, WatchStream,
};
use tokio::time::timeout;

use super::error::{EtcdError, shown};
use crate::config;

/// Between two pings. etcd hangs up on clients that ping more often than every 5 s (`--grpc-keepalive-min-time`).
const PING_INTERVAL: Duration = Duration::from_secs(6);

/// The history of a cluster that was promoted thousands of times must not keep the proxy from its leader. Without this
/// the limit is 4 MB.
const LARGEST_ANSWER: usize = 64 << 20;

/// A connection to one endpoint.
#[derive(Clone)]
pub(super) struct Endpoint {
    client: Arc<Client>,
    url: String,
    limit: Duration,
}

impl Endpoint {
    /// Reaches `url` and logs in.
    ///
    /// The requests themselves open the TCP connection, so success says little when there is no login.
    pub(super) async fn connect(config: &config::Etcd, url: &str) -> Result<Self, EtcdError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(config.timeout)
            // While the watch is open the connection is never idle. Pings without a stream would count against us.
            .with_keep_alive(PING_INTERVAL, config.timeout)
            .with_tcp_keepalive(PING_INTERVAL)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if url.starts_with("https://") {
            options = options.with_tls(tls(&config.tls).await?);
        }
        if let Some((user, password)) = &config.login {
            options = options.with_user(user, password.expose());
        }
        let operation = if config.login.is_some() { "log in" } else { "connect" };
        let endpoint = shown(url);
        // Boxed because the client's future is as large as all its services together.
        let connecting = Box::pin(Client::connect([url], Some(options)));
        let client = match timeout(config.timeout, connecting).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                return Err(EtcdError::RequestFailed { endpoint, operation, source: error.into() });
            }
            Err(_) => return Err(EtcdError::Timeout { endpoint, operation, limit: config.timeout }),
        };
        Ok(Self { client: Arc::new(client), url: endpoint, limit: config.timeout })
    }

    /// The URL, as it may be shown.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A linearizable read of everything below `prefix`.
    pub(super) async fn range(&self, prefix: &str) -> Result<GetResponse, EtcdError> {
        let mut client = self.client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
        let options = GetOptions::new().with_prefix();
        self.limited("read the cluster's keys", client.get(prefix, Some(options))).await
    }

    /// How long the lease still lasts.
    pub(super) async fn time_to_live(&self, lease: i64) -> Result<LeaseTimeToLiveResponse, EtcdError> {
        let mut client = self.client.lease_client();
        self.limited("read the leader's lease", client.time_to_live(lease, None)).await
    }

    /// A watch of everything below `prefix` that happened from `revision` on.
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

    /// Bounds `answer` by the limit and says what it was about when it fails.
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

    /// An error of this endpoint.
    pub(super) fn failed(&self, operation: &'static str, error: etcd_client::Error) -> EtcdError {
        EtcdError::RequestFailed { endpoint: self.url.clone(), operation, source: error.into() }
    }
}

/// Reads the certificates anew for each connection, so that renewed ones are taken up without a restart.
async fn tls(config: &config::EtcdTls) -> Result<TlsOptions, EtcdError> {
    let mut tls = TlsOptions::new();
    tls = match &config.ca_file {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read(path).await?)),
        None => tls.with_native_roots(),
    };
    if let Some((certificate, key)) = &config.identity {
        tls = tls.identity(Identity::from_pem(read(certificate).await?, read(key).await?));
    }
    Ok(tls)
}

async fn read(path: &Path) -> Result<Vec<u8>, EtcdError> {
    tokio::fs::read(path).await.map_err(|source| EtcdError::File { path: path.to_owned(), source })
}
