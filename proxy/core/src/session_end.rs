//! The end of sessions: what became of their server, in the words that clients are told and as a metric label.

use crate::cluster::MemberName;
use crate::reason::Reason;

/// What became of a server whose sessions are terminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The leader has lost its place.
    NoLongerLeader,
    /// The leader may have lost its place, for all that is known.
    UnconfirmedLeader,
    /// Nothing listens there any more, or it is starting up or shutting down.
    ServerDown,
    /// It belongs to another cluster.
    OtherCluster,
    /// Read route: it is a primary now.
    Promoted,
    /// Read route: the cluster does not name it any more.
    LeftCluster,
    /// Read route: its address leads elsewhere now.
    AddressMoved,
    /// Read route: it was restarted.
    Restarted,
    /// Read route: it does not reply any more.
    Silent,
    /// Read route: it is not fit for readers any more.
    LeftReadRoute,
}

impl SessionEnd {
    /// Every end, for metrics that name them all.
    pub const ALL: [Self; 10] = [
        Self::NoLongerLeader,
        Self::UnconfirmedLeader,
        Self::ServerDown,
        Self::OtherCluster,
        Self::Promoted,
        Self::LeftCluster,
        Self::AddressMoved,
        Self::Restarted,
        Self::Silent,
        Self::LeftReadRoute,
    ];

    /// The name used as a metric label.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoLongerLeader => "no_longer_leader",
            Self::UnconfirmedLeader => "unconfirmed_leader",
            Self::ServerDown => "server_down",
            Self::OtherCluster => "other_cluster",
            Self::Promoted => "promoted",
            Self::LeftCluster => "left_cluster",
            Self::AddressMoved => "address_moved",
            Self::Restarted => "restarted",
            Self::Silent => "silent",
            Self::LeftReadRoute => "left_read_route",
        }
    }

    /// The words that clients are told.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoLongerLeader => "the server is no longer the leader",
            Self::UnconfirmedLeader => "the server can no longer be confirmed as the leader",
            Self::ServerDown => "the server is down",
            Self::OtherCluster => "the server belongs to another cluster",
            Self::Promoted => "the server is a primary now",
            Self::LeftCluster => "the server has left the cluster",
            Self::AddressMoved => "the server's address leads elsewhere now",
            Self::Restarted => "the server was restarted",
            Self::Silent => "the server does not reply any more",
            Self::LeftReadRoute => "the server has left the read route",
        }
    }
}

impl Reason {
    /// What it means for the sessions that it ends. `member` is the server that they are on; the reason may name another
    /// one, such as the next leader.
    pub fn end_of_sessions(&self, member: &MemberName) -> SessionEnd {
        match self {
            Self::LeaderProbeFailed(named, failure) | Self::MemberProbeFailed(named, failure)
                if named == member && failure.means_down() =>
            {
                SessionEnd::ServerDown
            }
            Self::SystemIdMismatch(named, _) if named == member => SessionEnd::OtherCluster,
            Self::LeaseUnconfirmed(named)
            | Self::LeaderNotProbed(named)
            | Self::LeaderProbeFailed(named, _)
            | Self::LeaderSilent(named)
            | Self::LeaderAddressUnknown(named)
                if named != member =>
            {
                SessionEnd::NoLongerLeader
            }
            Self::NoLeader
            | Self::LeaderInRecovery(_)
            | Self::SystemIdMismatch(..)
            | Self::Bootstrapping
            | Self::StandbyCluster
            | Self::NotInFailsafe(_)
            | Self::NoPrimary
            | Self::TimelineBehind { .. }
            | Self::NotLastLeader(_) => SessionEnd::NoLongerLeader,
            Self::Starting(_)
            | Self::LeaderAddressUnknown(_)
            | Self::LeaseUnconfirmed(_)
            | Self::LeaseExpiring(_)
            | Self::LeaderNotProbed(_)
            | Self::LeaderProbeFailed(..)
            | Self::LeaderSilent(_)
            | Self::LeaderNotAcceptingConnections(_)
            | Self::LeaderAmbiguous(_)
            | Self::ClockStepped
            | Self::DcsSilent
            | Self::NoMembers
            | Self::SingleMember(_)
            | Self::MemberAddressUnknown(_)
            | Self::MemberNotProbed(_)
            | Self::MemberProbeFailed(..)
            | Self::MemberSilent(_)
            | Self::TwoPrimaries(..) => SessionEnd::UnconfirmedLeader,
            Self::MemberIsLeader(_) | Self::ReplicaPromoted(_) => SessionEnd::Promoted,
            Self::MemberRecordGone(_) => SessionEnd::LeftCluster,
            Self::ReplicaMoved(_) => SessionEnd::AddressMoved,
            Self::ReplicaRestarted(_) => SessionEnd::Restarted,
            Self::ReplicaSilent(_) => SessionEnd::Silent,
            Self::NoReplica
            | Self::ReplicaNotAcceptingConnections(_)
            | Self::ReplicaTagged(_)
            | Self::ReplicaLagging(_)
            | Self::ReplicaNotStreaming(_)
            | Self::PausedByOperator
            | Self::MemberDrained(_) => SessionEnd::LeftReadRoute,
        }
    }
}
