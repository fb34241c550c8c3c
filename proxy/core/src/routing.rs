//! Routing: the standing decision. It says what to do until the next one, so a late reader is still right.

use crate::cluster::{MemberName, ServerAddr, Timeline};
use crate::epoch::RouteEpoch;
use crate::leadership::Leader;
use crate::reason::Reason;

/// What to do with every session, until the next routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// Sessions that write.
    pub write: WriteRoute,
    /// Sessions that only read.
    pub read: ReadRoute,
    /// Whom to ask, and how urgently.
    pub probe_urgency: ProbeUrgency,
    /// All members that say they are out of recovery, when there is more than one.
    pub two_primaries: Vec<(MemberName, Timeline)>,
}

/// Where sessions that write go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteRoute {
    /// To the confirmed leader.
    Forward(Leader),
    /// Nowhere: new sessions wait, open ones are severed.
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
    /// To one of these; at least one admits new sessions or has open ones.
    Serve(Vec<ReadServer>),
    /// Nowhere.
    Hold(Reason),
}

impl ReadRoute {
    /// The servers that sessions of this route may be on.
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
    /// Who it is.
    pub member: MemberName,
    /// Where it is.
    pub addr: ServerAddr,
    /// Sessions of this server belong to this epoch of it; it changes when the server left the route and came back.
    pub epoch: RouteEpoch,
    /// Whether it takes new sessions; one that does not keeps those it has.
    pub admission: Admission,
}

/// Whether a server of the read route takes new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It does.
    NewSessions,
    /// It only keeps the ones it has: too far behind, tagged `noloadbalance`, or meanwhile the leader.
    ExistingOnly,
}

/// Whom to ask, and how urgently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeUrgency {
    /// Everybody, at the usual interval.
    Normal,
    /// Everybody, much more often: the servers are the only witnesses, or somebody is about to become leader.
    Elevated,
    /// This member every few milliseconds: clients wait for its word. The others as when watchful.
    Burst(MemberName),
}
