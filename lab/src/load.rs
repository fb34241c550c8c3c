//! What writers and latecomers do: one insert through an address, and what became of it.

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

/// SQLSTATE of a write on a server that is in recovery.
const READ_ONLY: &str = "25006";

/// What writers and latecomers write to, and how fast.
#[derive(Clone, Debug)]
pub struct Load {
    /// How to log in: the address of a proxy or a member, usually from [`Cluster::load`].
    pub config: Config,
    /// Tasks that write at the same time.
    pub writers: usize,
    /// Pause after each acknowledged write of a task. Zero writes as fast as it goes.
    pub pause: Duration,
    /// Pause after an error before the next try.
    pub pause_after_error: Duration,
    /// A try that takes longer, connecting included, counts as hung. Above the proxy's `hold` and the cluster's `ttl`,
    /// since waiting for a leader is no hang.
    pub timeout: Duration,
    /// Writes and errors kept, each; at the limit the writers stop and [`History::full`](crate::History) is set. One
    /// takes some 60 bytes.
    pub limit: usize,
    /// Unique over all writers of the cluster.
    pub(crate) ids: Arc<AtomicI64>,
    /// Which member has which address.
    pub(crate) names: BTreeMap<IpAddr, Arc<str>>,
}

impl Cluster {
    /// Four writers, a write each every 5 ms, through `address`, as the user [`crate::APP`].
    #[must_use]
    pub fn load(&self, address: SocketAddr) -> Load {
        Load {
            config: self.app_config(address),
            writers: 4,
            pause: Duration::from_millis(5),
            pause_after_error: Duration::from_millis(2),
            timeout: Duration::from_secs(60),
            limit: 1_000_000,
            ids: Arc::clone(&self.ids),
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
    /// No session: reset or closed before the login was done.
    NoSession,
    /// SQLSTATE 25006: the server is in recovery. What a proxy that follows the leader must never cause.
    ReadOnly,
    /// Another SQLSTATE, such as 57P01 (sent away) or 57P03 (no leader).
    Sqlstate(String),
    /// The session broke in the middle: whether the row was written is unknown.
    Broken,
    /// Neither answer nor error within `Load::timeout`.
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

/// What one try gave: the server that acknowledged, or why not and in whose words.
pub(crate) type Outcome = Result<IpAddr, (Failure, String)>;

impl Load {
    pub(crate) fn next_id(&self) -> i64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn name_of(&self, server: IpAddr) -> Arc<str> {
        self.names.get(&server).cloned().unwrap_or_else(|| Arc::from(server.to_string()))
    }

    /// One insert, over `session` if it is there, else over a new one that is left in it. After an error it is gone.
    pub(crate) async fn write(&self, session: &mut Option<Session>, id: i64) -> Outcome {
        let written = async {
            let open = match session.take() {
                Some(open) => open,
                None => Session::open(&self.config)
                    .await
                    .map_err(|error| (failed(&error, false), text(&error)))?,
            };
            // One round trip: inet_server_addr() is the server's own address, whatever stands in between.
            let rows = open
                .query_typed(
                    "insert into writes (id) values ($1) returning inet_server_addr()",
                    &[(&id, Type::INT8)],
                )
                .await
                .map_err(|error| (failed(&error, true), text(&error)))?;
            let server = rows.first().and_then(|row| row.try_get(0).ok());
            *session = Some(open);
            server.ok_or_else(|| (Failure::Broken, "an insert that returned no address".to_owned()))
        };
        match tokio::time::timeout(self.timeout, written).await {
            Ok(outcome) => outcome,
            Err(_) => Err((Failure::Hung, format!("neither answer nor error within {:?}", self.timeout))),
        }
    }
}

fn failed(error: &Error, in_session: bool) -> Failure {
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

fn text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
