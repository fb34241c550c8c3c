//! Observations: every kind of fact that the router can be told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cluster::{
    ClusterConfig, LeaderKey, Lsn, Member, MemberName, ServerAddr, ServerId, StartTime, SystemId, Timeline,
};
use crate::dcs_problem::DcsProblem;
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
    /// The cluster's dynamic configuration, whenever it can be read.
    Config(ClusterConfig),
    /// The cluster's dynamic configuration is gone or cannot be read: the last one stays in force.
    ConfigLost(ConfigProblem),
    /// The `failsafe` key: the members that Patroni's failsafe mode must reach; empty when there is no such key.
    Failsafe(BTreeSet<MemberName>),
    /// The `failover` key: somebody asked for a change of leader, or the request is gone.
    Switchover {
        /// Whether there is a request.
        announced: bool,
    },
    /// The `initialize` key: the system identifier of this cluster; `None` while it is being created, and when the key
    /// is gone.
    Initialize(Option<SystemId>),
    /// No endpoint of the DCS gave a linearizable answer.
    DcsSilent {
        /// When that became known.
        since: Moment,
    },
    /// What keeps the DCS from telling about the cluster; `None` once it tells.
    DcsProblem(Option<DcsProblem>),
    /// The wall clock moved against the clock of the moments: this machine may have stood still without counting it, so
    /// nothing that was asked before proves anything.
    ClockStepped {
        /// When that was noticed.
        at: Moment,
    },
    /// The address of a member leads to another socket than before.
    Address {
        /// Whose address.
        member: MemberName,
        /// The address, as the cluster publishes it.
        addr: ServerAddr,
        /// Where it leads now.
        socket: SocketAddr,
    },
    /// A server was asked, and this came of it.
    Probe {
        /// The member that was probed.
        member: MemberName,
        /// The address that was published for it when it was asked.
        addr: ServerAddr,
        /// The socket that answered, or did not; `None` when the address leads nowhere.
        socket: Option<SocketAddr>,
        /// When the question was sent.
        sent: Moment,
        /// Over which connection.
        connection: ProbeConnection,
        /// The server's reply, or why there is none.
        outcome: Result<ProbeReply, ProbeFailure>,
    },
}

/// Why there is no readable configuration of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigProblem {
    /// The key was deleted.
    Deleted,
    /// Its value is not what Patroni writes.
    Unreadable,
}

/// How a probe reached a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeConnection {
    /// Over the connection that is kept open, or that is to be: it tells what the server is.
    Persistent {
        /// When the connection was asked for. One that was made after an attempt failed shows that the server takes
        /// connections again.
        since: Moment,
    },
    /// Over a connection made for this one question: it also tells whether the server still takes connections.
    New,
}

/// What a server reports about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeReply {
    /// The system identifier of its cluster.
    pub system_id: SystemId,
    /// When it started.
    pub started: StartTime,
    /// Whether it writes or follows.
    pub role: Role,
}

impl ProbeReply {
    /// Which run of which server this is.
    pub const fn server(&self) -> ServerId {
        ServerId { system_id: self.system_id, started: self.started }
    }

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Nothing listens there (ECONNREFUSED): the server process is gone.
    Refused,
    /// The connection was made and broke, by a reset or an early end.
    Reset,
    /// The name of its host cannot be looked up, so nobody was asked.
    Unresolved,
    /// No answer in time. The server may be slow, frozen, or behind a network that swallows packets.
    TimedOut,
    /// SQLSTATE 57P03: the server is starting, or recovering from a crash.
    StartingUp,
    /// SQLSTATE 57P03: it is going down.
    ShuttingDown,
    /// SQLSTATE 53300: the server runs, but has no free connection for the monitoring user.
    TooManyConnections,
    /// The server rejected the monitoring user (SQLSTATE class 28, or an unknown database).
    Denied,
    /// Any other error, such as a TLS failure or a reply that makes no sense.
    Failed,
}

impl ProbeFailure {
    /// Every failure, for metrics that name them all.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Reset,
        Self::Unresolved,
        Self::TimedOut,
        Self::StartingUp,
        Self::ShuttingDown,
        Self::TooManyConnections,
        Self::Denied,
        Self::Failed,
    ];

    /// Whether a server whose kept connection cannot be made again for this reason is down. The other failures only
    /// let its last reply grow old.
    pub const fn means_down(self) -> bool {
        match self {
            Self::Refused | Self::StartingUp | Self::ShuttingDown => true,
            Self::Reset
            | Self::Unresolved
            | Self::TimedOut
            | Self::TooManyConnections
            | Self::Denied
            | Self::Failed => false,
        }
    }

    /// Whether a new connection of a user would meet the same failure. The others concern the monitoring user alone.
    pub const fn keeps_users_out(self) -> bool {
        match self {
            Self::Refused | Self::Reset | Self::TimedOut | Self::StartingUp | Self::ShuttingDown => true,
            Self::Unresolved | Self::TooManyConnections | Self::Denied | Self::Failed => false,
        }
    }

    /// The name used in metrics, logs and scenario files.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Unresolved => "unresolved",
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
            Self::Reset => "breaks connections off",
            Self::Unresolved => "has an address that cannot be looked up",
            Self::TimedOut => "does not answer in time",
            Self::StartingUp => "is starting up",
            Self::ShuttingDown => "is shutting down",
            Self::TooManyConnections => "has no connection left for the monitoring user",
            Self::Denied => "rejects the monitoring user",
            Self::Failed => "answers with an error",
        })
    }
}
