//! Snapshots: one session as it is at a moment, and the choice of sessions to act on.

use std::net::SocketAddr;
use std::time::Duration;

use pg_leader_proxy_core::MemberName;

use super::identity::Identity;
use super::record::SessionId;
use crate::route::RouteKind;

/// A session at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSnapshot {
    /// Its number.
    pub id: SessionId,
    /// The route that its client chose.
    pub route: RouteKind,
    /// The client's address.
    pub client: SocketAddr,
    /// What it is doing.
    pub state: SessionState,
    /// The member that it is with, or is being connected to.
    pub member: Option<MemberName>,
    /// The proxy's own port on the connection to the server: `client_port` in `pg_stat_activity`.
    pub server_port: Option<u16>,
    /// What the client said of itself, if that could be read.
    pub identity: Option<Identity>,
    /// How long ago the client was accepted.
    pub age: Duration,
    /// How long ago the last byte passed; `None` before a server has answered.
    pub idle: Option<Duration>,
    /// How long it has waited for a server, apart from a wait that still lasts.
    pub waited: Duration,
    /// Bytes sent to the server.
    pub bytes_to_server: u64,
    /// Bytes sent to the client.
    pub bytes_to_client: u64,
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// The client has not sent its whole first packet.
    Starting,
    /// It waits for a server.
    Held,
    /// It is being connected to a server, which has not answered yet.
    Connecting,
    /// Bytes pass between client and server.
    Relaying,
}

impl SessionState {
    /// The name in answers and log lines.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Held => "held",
            Self::Connecting => "connecting",
            Self::Relaying => "relaying",
        }
    }
}

/// The sessions to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionSelector {
    /// The one with this number.
    Id(SessionId),
    /// Those that are with this member, or are being connected to it.
    Member(MemberName),
    /// Those of this user. Encrypted sessions are not among them, because their user cannot be read.
    User(String),
}

impl SessionSelector {
    /// Whether it means the session with this number, member and identity.
    pub(crate) fn means(
        &self,
        id: SessionId,
        member: Option<&MemberName>,
        identity: Option<&Identity>,
    ) -> bool {
        match self {
            Self::Id(wanted) => *wanted == id,
            Self::Member(wanted) => Some(wanted) == member,
            Self::User(wanted) => identity.is_some_and(|identity| identity.user() == wanted),
        }
    }
}
