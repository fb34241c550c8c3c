//! Observations: every kind of fact that can reach the router.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::cluster::{ClusterConfig, LeaderKey, Lsn, Member, MemberName, ServerAddr, SystemId, Timeline};
use crate::moment::{Moment, Stamped};

/// One fact about the cluster.
///
/// Whoever sends observations of the DCS sends them in the store's order; observations of servers may arrive in any
/// order, because each carries the moment its question was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// What the leader key says, from a linearizable read or a live watch.
    ///
    /// A read brings the key and its lease in one observation, so that a store that comes back after an outage is
    /// never seen with a key but without its lease.
    LeaderKey {
        /// The key; `None` when there is no such key.
        key: Option<LeaderKey>,
        /// How long the lease still lasts, where a linearizable read in the same raft term confirmed it. The stamp is
        /// when the question was sent, which is the honest age of the answer.
        lease: Option<Stamped<Duration>>,
        /// When the event or the answer arrived. Only probes sent from then on speak for this holder.
        seen: Moment,
    },
    /// All members that the cluster has now.
    Members(BTreeMap<MemberName, Member>),
    /// The cluster's dynamic configuration.
    Config(ClusterConfig),
    /// The `failover` key: somebody asked for a change of leader, or the request is gone.
    Switchover {
        /// Whether a request stands.
        announced: bool,
    },
    /// The `initialize` key: the system identifier of this cluster; `None` while it is being created.
    Initialize(Option<SystemId>),
    /// No endpoint of the DCS gave a linearizable answer.
    DcsSilent {
        /// When that became known.
        since: Moment,
    },
    /// A server was asked, and this came of it.
    Probe {
        /// Which member was asked.
        member: MemberName,
        /// Where it was asked; an answer from an address that the member left is not its word.
        addr: ServerAddr,
        /// When the question was sent.
        sent: Moment,
        /// How the question reached the server.
        connection: ProbeConnection,
        /// The server's own word, or what kept it from giving one.
        outcome: Result<ProbeReply, ProbeFailure>,
    },
}

/// How a probe reached a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeConnection {
    /// Over the connection that is kept open: it tells what the server is.
    Persistent,
    /// Over a connection made for this one question: it also tells whether the server still takes connections.
    New,
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeReply {
    /// Which cluster it belongs to.
    pub system_id: SystemId,
    /// Whether it writes or follows.
    pub role: Role,
}

impl ProbeReply {
    /// Whether the server is out of recovery.
    pub const fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary { .. })
    }

    /// The timeline it is on, where it could tell.
    pub const fn timeline(&self) -> Option<Timeline> {
        match self.role {
            Role::Primary { timeline, .. } => Some(timeline),
            Role::Replica { timeline, .. } => timeline,
        }
    }
}

/// Whether a server is in recovery, and how far its log has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not in recovery: it takes writes.
    Primary {
        /// The timeline it writes on.
        timeline: Timeline,
        /// How far it has written.
        written: Lsn,
    },
    /// In recovery: it refuses writes with SQLSTATE 25006.
    Replica {
        /// The timeline it follows, where the server tells it.
        timeline: Option<Timeline>,
        /// How far it has received the log, if it ever did.
        received: Option<Lsn>,
        /// How far it has replayed the log, if it ever did.
        replayed: Option<Lsn>,
        /// Whether a WAL receiver is running.
        streaming: bool,
    },
}

/// Why a server gave no word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeFailure {
    /// Nothing listens there, or the connection was reset: the server process is gone.
    Refused,
    /// No answer in time. The server may be slow, frozen, or behind a network that swallows packets.
    TimedOut,
    /// SQLSTATE 57P03: recovery after a crash, or a start.
    StartingUp,
    /// SQLSTATE 57P01 or 57P03: it is going down.
    ShuttingDown,
    /// SQLSTATE 53300: alive, but without a free connection for the monitoring user.
    TooManyConnections,
    /// The monitoring user was turned away (SQLSTATE class 28, or an unknown database).
    Denied,
    /// Any other error, such as a TLS failure or an answer that makes no sense.
    Failed,
}

impl ProbeFailure {
    /// Every failure, for metrics that name them all.
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::TimedOut,
        Self::StartingUp,
        Self::ShuttingDown,
        Self::TooManyConnections,
        Self::Denied,
        Self::Failed,
    ];

    /// Whether this failure contradicts an earlier "I am a primary" at once. The others only let it grow old.
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
            Self::Denied => "turns the monitoring user away",
            Self::Failed => "answers with an error",
        })
    }
}
