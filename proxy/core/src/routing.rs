//! Routing: the standing decision. It is valid until the next one, so late readers are right too.

use crate::cluster::{MemberName, ServerAddr, Timeline};
use crate::epoch::RouteEpoch;
use crate::leadership::Leader;
use crate::reason::Reason;

/// Where sessions go, until the next routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The route for sessions that write.
    pub write: WriteRoute,
    /// The route for sessions that only read.
    pub read: ReadRoute,
    /// How often to probe the servers.
    pub probe_urgency: ProbeUrgency,
    /// The members that report to be out of recovery, if there is more than one.
    pub two_primaries: Vec<(MemberName, Timeline)>,
}

/// Where sessions that write go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteRoute {
    /// To the confirmed leader.
    Forward(Leader),
    /// Nowhere: new sessions wait, open ones are terminated.
    Hold(Reason),
}

impl WriteRoute {
    /// The confirmed leader, if there is one.
    pub const fn leader(&self) -> Option<&Leader> {
        match self {
            Self::Forward(leader) => Some(leader),
            Self::Hold(_) => None,
        }
    }
}

/// Where sessions that only read go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadRoute {
    /// To one of these servers.
    Serve(Vec<ReadServer>),
    /// Nowhere.
    Hold(Reason),
}

impl ReadRoute {
    /// The servers that sessions of this route may use.
    pub fn servers(&self) -> &[ReadServer] {
        match self {
            Self::Serve(servers) => servers,
            Self::Hold(_) => &[],
        }
    }
}

/// A server that may be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadServer {
    /// The member's name.
    pub member: MemberName,
    /// The address of the server.
    pub addr: ServerAddr,
    /// The epoch of its sessions. It changes when the server leaves the route and comes back.
    pub epoch: RouteEpoch,
    /// Whether it takes new sessions. If not, it keeps those it has.
    pub admission: Admission,
}

/// Whether a server of the read route takes new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It takes new sessions.
    NewSessions,
    /// It only keeps the sessions it has: it lags too far behind, is tagged `noloadbalance`, or has become the leader.
    ExistingOnly,
}

/// How often to probe the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeUrgency {
    /// Every server at the normal interval.
    Normal,
    /// Every server much more often: only the servers' replies count, or a new leader is expected.
    Elevated,
    /// This member every few milliseconds, because clients wait for its reply; all others as in `Elevated`.
    Burst(MemberName),
}
