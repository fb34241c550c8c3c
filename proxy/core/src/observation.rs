//! Observations: every kind of fact that the router can be told.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::cluster::{ClusterConfig, LeaderKey, Lsn, Member, MemberName, ServerAddr, SystemId, Timeline};
use crate::moment::{Moment, Stamped};

/// One fact about the cluster.
///
/// Observations of the DCS must arrive in the store's order. Observations of servers may arrive in any order, because
/// each carries the moment its question was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The leader key, from a linearizable read or from the watch.
    ///
    /// A read delivers the key and its lease in one observation. So a store that comes back after an outage is never
    /// seen with a key but without its lease, which would terminate every session for nothing.
    LeaderKey {
        /// The key; `None` if it does not exist.
        key: Option<LeaderKey>,
        /// The remaining lease, if a linearizable read in the same raft term confirmed it. It is stamped with when the
        /// question was sent, because the answer may be as old as that.
        lease: Option<Stamped<Duration>>,
        /// When the event or the answer arrived. Only probes sent since then can confirm this holder.
        seen: Moment,
    },
    /// All members that the DCS lists now.
    Members(BTreeMap<MemberName, Member>),
    /// Patroni's dynamic configuration.
    Config(ClusterConfig),
    /// Patroni's `failover` key: a switchover was requested, or the request is gone.
    Switchover {
        /// Whether there is a request.
        announced: bool,
    },
    /// Patroni's `initialize` key: the cluster's system identifier; `None` while the cluster is being created.
    Initialize(Option<SystemId>),
    /// No endpoint of the DCS gave a linearizable answer.
    DcsSilent {
        /// When that became known.
        since: Moment,
    },
    /// The outcome of probing one server.
    Probe {
        /// The member that was probed.
        member: MemberName,
        /// The address that was probed. It must still be the member's address, or the outcome is ignored.
        addr: ServerAddr,
        /// When the question was sent.
        sent: Moment,
        /// Over which connection.
        connection: ProbeConnection,
        /// The server's reply, or why there is none.
        outcome: Result<ProbeReply, ProbeFailure>,
    },
}

/// The connection that a probe used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeConnection {
    /// The connection that stays open: it shows the server's role.
    Persistent,
    /// A connection opened for this probe alone: it also shows whether the server accepts connections.
    New,
}

/// What a server reports about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeReply {
    /// The system identifier of its cluster.
    pub system_id: SystemId,
    /// Whether it is a primary or a replica.
    pub role: Role,
}

impl ProbeReply {
    /// Whether the server is out of recovery.
    pub const fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary { .. })
    }

    /// Its timeline, if it could tell.
    pub const fn timeline(&self) -> Option<Timeline> {
        match self.role {
            Role::Primary { timeline, .. } => Some(timeline),
            Role::Replica { timeline, .. } => timeline,
        }
    }
}

/// Whether a server is in recovery, and its position in the write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not in recovery: it takes writes.
    Primary {
        /// The timeline it writes on.
        timeline: Timeline,
        /// The end of the log that it has written.
        written: Lsn,
    },
    /// In recovery: it rejects writes with SQLSTATE 25006.
    Replica {
        /// The timeline it follows, if the server could tell.
        timeline: Option<Timeline>,
        /// The end of the log that it has received, if it ever received any.
        received: Option<Lsn>,
        /// The end of the log that it has replayed, if it ever replayed any.
        replayed: Option<Lsn>,
        /// Whether a WAL receiver is running.
        streaming: bool,
    },
}

/// Why a probe got no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeFailure {
    /// Nothing listens at the address, or the connection was reset: the server process is gone.
    Refused,
    /// No reply in time. The server may be slow, frozen, or behind a network that drops packets.
    TimedOut,
    /// SQLSTATE 57P03: the server is starting, or recovering from a crash.
    StartingUp,
    /// SQLSTATE 57P01 or 57P03: the server is shutting down.
    ShuttingDown,
    /// SQLSTATE 53300: the server runs, but has no free connection for the monitoring user.
    TooManyConnections,
    /// The server rejected the monitoring user (SQLSTATE class 28, or an unknown database).
    Denied,
    /// Any other error, such as a TLS failure or a reply that makes no sense.
    Failed,
}

impl ProbeFailure {
    /// All failures, for metrics with one series for each.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::TimedOut,
        Self::StartingUp,
        Self::ShuttingDown,
        Self::TooManyConnections,
        Self::Denied,
        Self::Failed,
    ];

    /// Whether this failure discards the last reply at once. Other failures only let it grow too old.
    pub const fn contradicts(self) -> bool {
        match self {
            Self::Refused | Self::StartingUp | Self::ShuttingDown => true,
            Self::TimedOut | Self::TooManyConnections | Self::Denied | Self::Failed => false,
        }
    }

    /// The name used in metrics, logs and scenario files.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::StartingUp => "starting_up",
            Self::ShuttingDown => "shutting_down",
            Self::TooManyConnections => "too_many_connections",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refuses connections",
            Self::TimedOut => "does not answer in time",
            Self::StartingUp => "is starting up",
            Self::ShuttingDown => "is shutting down",
            Self::TooManyConnections => "has no connection left for the monitoring user",
            Self::Denied => "rejects the monitoring user",
            Self::Failed => "answers with an error",
        })
    }
}
