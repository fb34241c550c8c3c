//! Routing: the standing decision. It says what to do until the next one, so a late reader is still right.

use std::fmt;

use crate::cluster::{MemberName, ServerAddr, Timeline};
use crate::leadership::Confirmed;
use crate::reason::Reason;

/// The count of confirmed leaders. A session belongs to the epoch it was connected in and ends with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteEpoch(u64);

impl RouteEpoch {
    /// The epoch after this one.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The count itself; 0 is before the first leader.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RouteEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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

/// Leader by the DCS and primary by its own word: the only thing that a write can be routed to.
///
/// The fields are private, so that only a proof makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    epoch: RouteEpoch,
    member: MemberName,
    addr: ServerAddr,
    timeline: Timeline,
    basis: Basis,
    hold_reason: Option<Reason>,
}

impl Leader {
    pub(crate) fn new(epoch: RouteEpoch, confirmed: Confirmed) -> Self {
        let Confirmed { member, addr, timeline, basis, hold_reason, .. } = confirmed;
        Self { epoch, member, addr, timeline, basis, hold_reason }
    }

    /// The epoch that sessions of this leader belong to.
    pub const fn epoch(&self) -> RouteEpoch {
        self.epoch
    }

    /// Who it is.
    pub const fn member(&self) -> &MemberName {
        &self.member
    }

    /// Where it is.
    pub const fn addr(&self) -> &ServerAddr {
        &self.addr
    }

    /// The timeline it writes on.
    pub const fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Which rule confirmed it.
    pub const fn basis(&self) -> Basis {
        self.basis
    }

    /// Why new sessions must wait although open ones go on; normally `None`.
    pub const fn hold_reason(&self) -> Option<&Reason> {
        self.hold_reason.as_ref()
    }
}

/// The rule that confirmed a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// It holds the leader key, inside the lease horizon.
    Lease,
    /// Every known member answers and it alone is out of recovery.
    AllMembers,
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
