//! The confirmed leader: what a proof becomes once it has an epoch.

use std::net::SocketAddr;

use crate::admission::Admission;
use crate::cluster::{LeaderKey, MemberName, ServerAddr, ServerId, Timeline};
use crate::epoch::RouteEpoch;

use super::{Proof, Standing};

/// Leader by the DCS and primary by its own reply: the only thing that a write can be routed to.
///
/// The fields are private, so that only a proof makes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    epoch: RouteEpoch,
    standing: Standing,
    admission: Admission,
}

impl Leader {
    pub(crate) fn new(epoch: RouteEpoch, proof: Proof) -> Self {
        Self { epoch, standing: proof.leader, admission: proof.admission }
    }

    pub(crate) fn set_admission(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// What it takes to go on in this epoch.
    pub(crate) const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The epoch that sessions of this leader belong to.
    pub const fn epoch(&self) -> RouteEpoch {
        self.epoch
    }

    /// Who it is.
    pub const fn member(&self) -> &MemberName {
        &self.standing.member
    }

    /// Where it is, as the cluster published it.
    pub const fn addr(&self) -> &ServerAddr {
        &self.standing.addr
    }

    /// The socket that gave the reply: sessions go there, and to no name that is resolved once more.
    pub const fn socket(&self) -> SocketAddr {
        self.standing.socket
    }

    /// Which run of which server it is.
    pub const fn server(&self) -> ServerId {
        self.standing.server
    }

    /// The timeline it writes on.
    pub const fn timeline(&self) -> Timeline {
        self.standing.timeline
    }

    /// The leader key that it rests on; `None` without a DCS, and in maintenance mode without a key.
    pub const fn key(&self) -> Option<&LeaderKey> {
        self.standing.key.as_ref()
    }

    /// Which rule confirmed it.
    pub const fn basis(&self) -> Basis {
        self.standing.basis
    }

    /// Whether it takes new sessions.
    pub const fn admission(&self) -> &Admission {
        &self.admission
    }
}

/// The rule that confirmed a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// It holds the leader key, inside the lease horizon.
    Lease,
    /// Every known member answers and it alone is out of recovery.
    AllMembers,
}
