//! The load of writers and new clients: one insert through an address, and its outcome.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio_postgres::types::Type;
use tokio_postgres::{Config, Error};

use crate::cluster::Cluster;
use crate::session::Session;

/// SQLSTATE of a write on a server in recovery.
const READ_ONLY: &str = "25006";

/// Where writers and new clients write, and how fast.
#[derive(Clone, Debug)]
pub struct Load {
    /// How to log in, at a proxy or a member.
    pub config: Config,
    /// The number of tasks that write at the same time.
    pub writers: usize,
    /// A task's pause after each acknowledged write. Zero writes as fast as possible.
    pub pause: Duration,
    /// A task's pause after an error.
    pub pause_after_error: Duration,
    /// When an attempt, connecting included, counts as hung. Should be longer than the time that the proxy holds a client
    /// and the cluster's `ttl`: to wait for a leader is not to hang.
    pub timeout: Duration,
    /// How many writes and how many errors are recorded, at some 60 bytes each. At the limit the writers stop and set
    /// [`History::full`](crate::History).
    pub limit: usize,
    /// The next row's id, shared by all writers of the cluster.
    pub(crate) next_id: Arc<AtomicI64>,
    /// The members' names by the addresses of their servers.
    pub(crate) names: BTreeMap<IpAddr, Arc<str>>,
}

impl Cluster {
    /// Four writers through `address` as the user [`crate::APP`], each with a pause of 5 ms between its writes.
    #[must_use]
    pub fn load(&self, address: SocketAddr) -> Load {
        Load {
            config: self.app_config(address),
            writers: 4,
            pause: Duration::from_millis(5),
            pause_after_error: Duration::from_millis(2),
            timeout: Duration::from_secs(60),
            limit: 1_000_000,
            next_id: Arc::clone(&self.next_id),
            names: self
                .members()
                .map(|member| (member.postgres_direct.ip(), Arc::from(member.name.as_str())))
                .collect(),
        }
    }
}

/// Why a write was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The connection was refused.
    Refused,
    /// The connection was reset or closed before the login was complete.
    NoSession,
    /// SQLSTATE 25006: the server is in recovery. A proxy that follows the leader never causes this.
    ReadOnly,
    /// Another SQLSTATE, such as 57P01 (terminated) or 57P03 (no leader).
    Sqlstate(String),
    /// The session broke during the write. The row may exist.
    Broken,
    /// Neither an answer nor an error within `Load::timeout`.
    Hung,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::NoSession => f.write_str("no session"),
            Self::ReadOnly => write!(f, "SQLSTATE {READ_ONLY}"),
            Self::Sqlstate(code) => write!(f, "SQLSTATE {code}"),
            Self::Broken => f.write_str("session broken"),
            Self::Hung => f.write_str("hung"),
        }
    }
}

/// The server that acknowledged a write, or the failure and its error message.
pub(crate) type Outcome = Result<IpAddr, (Failure, String)>;

impl Load {
    pub(crate) fn next_id(&self) -> i64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn name_of(&self, server: IpAddr) -> Arc<str> {
        self.names.get(&server).cloned().unwrap_or_else(|| Arc::from(server.to_string()))
    }

    /// One insert, over `session` if it is open; otherwise over a new one, which stays open in it. An error closes it.
    pub(crate) async fn write(&self, session: &mut Option<Session>, id: i64) -> Outcome {
        let write = async {
            let open = match session.take() {
                Some(open) => open,
                None => Session::open(&self.config).await.map_err(|error| failed(error, false))?,
            };
            // One round trip. inet_server_addr() is the server's own address, whatever proxy is in between.
            let rows = open
                .query_typed(
                    "insert into writes (id) values ($1) returning inet_server_addr()",
                    &[(&id, Type::INT8)],
                )
                .await
                .map_err(|error| failed(error, true))?;
            let server = rows.first().and_then(|row| row.try_get(0).ok());
            *session = Some(open);
            server.ok_or_else(|| (Failure::Broken, "the insert returned no address".to_owned()))
        };
        match tokio::time::timeout(self.timeout, write).await {
            Ok(outcome) => outcome,
            Err(_) => Err((Failure::Hung, format!("neither answer nor error within {:?}", self.timeout))),
        }
    }
}

/// The kind of an error, and the error with its causes.
fn failed(error: Error, in_session: bool) -> (Failure, String) {
    (failure(&error, in_session), format!("{:#}", anyhow::Error::from(error)))
}

fn failure(error: &Error, in_session: bool) -> Failure {
    if let Some(state) = error.code() {
        return match state.code() {
            READ_ONLY => Failure::ReadOnly,
            code => Failure::Sqlstate(code.to_owned()),
        };
    }
    if in_session {
        return Failure::Broken;
    }
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match io.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => Failure::Refused,
        _ => Failure::NoSession,
    }
}
