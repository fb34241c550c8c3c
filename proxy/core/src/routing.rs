//! Routing: the standing decision. It is valid until the next one, so late readers are right too.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::admission::Admission;
use crate::alarm::Alarm;
use crate::cluster::{MemberName, ServerAddr, ServerId, Timeline};
use crate::epoch::RouteEpoch;
use crate::leadership::Leader;
use crate::reason::Reason;
use crate::restrictions::Restrictions;

/// Where sessions go, until the next routing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Routing {
    /// The route for sessions that write.
    pub write: WriteRoute,
    /// The route for sessions that only read.
    pub read: ReadRoute,
    /// How often to probe the servers.
    pub probe_urgency: ProbeUrgency,
    /// What an operator should look into, in a fixed order.
    pub alarms: Vec<Alarm>,
}

impl Routing {
    /// The decision of a router that knows nothing.
    pub(crate) const fn starting() -> Self {
        Self {
            write: WriteRoute::Hold(Reason::Starting(None)),
            read: ReadRoute::Hold(Reason::Starting(None)),
            probe_urgency: ProbeUrgency::Elevated,
            alarms: Vec::new(),
        }
    }

    /// All members that say they are out of recovery, when there is more than one.
    pub fn two_primaries(&self) -> &[(MemberName, Timeline)] {
        let found = self.alarms.iter().find_map(|alarm| {
            if let Alarm::TwoPrimaries(primaries) = alarm { Some(primaries.as_slice()) } else { None }
        });
        found.unwrap_or_default()
    }

    /// Makes new sessions wait everywhere, if an operator has paused them.
    pub(crate) fn pause(&mut self, restrictions: &Restrictions) {
        if let WriteRoute::Forward(leader) = &mut self.write {
            leader.set_admission(restrictions.paused(leader.admission()));
        }
        if let ReadRoute::Serve(servers) = &mut self.read {
            servers.iter_mut().for_each(|server| server.admission = restrictions.paused(&server.admission));
        }
    }

    /// The sockets that sessions may be on.
    pub(crate) fn sockets(&self) -> BTreeSet<SocketAddr> {
        let leader = self.write.leader().map(Leader::socket);
        self.read.servers().iter().map(|server| server.socket).chain(leader).collect()
    }
}

/// Where sessions that write go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

    /// Why new sessions wait, if they do.
    pub const fn waits(&self) -> Option<&Reason> {
        match self {
            Self::Forward(leader) => leader.admission().waits(),
            Self::Hold(reason) => Some(reason),
        }
    }
}

/// Where sessions that only read go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

    /// Why new sessions wait, if they do.
    pub fn waits(&self) -> Option<&Reason> {
        match self {
            Self::Serve(servers) => Admission::waits_for_any(servers.iter().map(|server| &server.admission)),
            Self::Hold(reason) => Some(reason),
        }
    }
}

/// A server that may be read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReadServer {
    /// The member's name.
    pub member: MemberName,
    /// Where it is, as the cluster published it.
    pub addr: ServerAddr,
    /// The socket that gave the reply; sessions go there.
    pub socket: SocketAddr,
    /// Which run of which server it is.
    pub server: ServerId,
    /// Sessions of this server belong to this epoch of it; it changes when the server left the route and came back.
    pub epoch: RouteEpoch,
    /// Whether it takes new sessions.
    pub admission: Admission,
    /// What becomes of the sessions it has.
    pub open_sessions: OpenSessions,
}

/// What becomes of the sessions that a server of the read route has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenSessions {
    /// They go on.
    GoOn,
    /// Each ends as soon as it is idle: its server was promoted, and readers do not stay on a primary.
    EndWhenIdle,
}

/// How often to probe the servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProbeUrgency {
    /// Every server at the normal interval.
    Normal,
    /// Every server much more often: only the servers' replies count, or a new leader is expected.
    Elevated,
    /// This member every few milliseconds: clients wait for its reply. The others as when elevated.
    Burst(MemberName),
}
