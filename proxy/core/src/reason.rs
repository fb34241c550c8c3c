//! Reasons: why nothing is forwarded, in one enum that logs, metrics, the admin page and clients all quote.

use std::fmt;

use crate::cluster::{MemberName, SystemId, Timeline};
use crate::observation::ProbeFailure;

/// Why a route forwards to nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing has been observed yet.
    Starting,
    /// The leader key is not held.
    NoLeader,
    /// The leader key names a member whose address the cluster does not publish.
    LeaderAddressUnknown(MemberName),
    /// The lease of the leader key has not been confirmed yet.
    LeaseUnconfirmed(MemberName),
    /// The lease of the leader key is at its end, and its holder does not renew it.
    LeaseExpiring(MemberName),
    /// The holder of the key has not been asked since it took the key.
    LeaderNotProbed(MemberName),
    /// The holder of the key still is, or again is, in recovery.
    LeaderInRecovery(MemberName),
    /// The holder of the key gave no word.
    LeaderProbeFailed(MemberName, ProbeFailure),
    /// The holder's last word is too old.
    LeaderSilent(MemberName),
    /// The holder takes no new connections, though it answers on open ones.
    LeaderNotAcceptingConnections(MemberName),
    /// The server at the member's address belongs to another cluster.
    SystemIdMismatch(MemberName, SystemId),
    /// The cluster is being created: it has no system identifier yet.
    Bootstrapping,
    /// Another member reports a higher timeline than the holder of the key.
    TimelineBehind {
        /// Whom the key names.
        member: MemberName,
        /// The timeline it is on.
        timeline: Timeline,
        /// The highest that any member reported.
        highest: Timeline,
    },
    /// The cluster follows another one and takes no writes.
    StandbyCluster,
    /// The DCS is silent past the lease, and the policy is to fence.
    DcsSilent,
    /// Without the DCS: no member is known.
    NoMembers,
    /// Without the DCS: this member is silent, and might have been promoted.
    MemberSilent(MemberName),
    /// Without the DCS: no member is out of recovery.
    NoPrimary,
    /// Without the DCS: more than one member is out of recovery.
    TwoPrimaries(MemberName, MemberName),
    /// Without the DCS: the one primary is not the member that held the key last.
    NotLastLeader(MemberName),
    /// No replica is fit to be read from.
    NoReplica,
}

impl Reason {
    /// Every code, for metrics that name them all.
    pub const CODES: [&'static str; 21] = [
        "starting",
        "no_leader",
        "leader_address_unknown",
        "lease_unconfirmed",
        "lease_expiring",
        "leader_not_probed",
        "leader_in_recovery",
        "leader_probe_failed",
        "leader_silent",
        "leader_not_accepting_connections",
        "system_id_mismatch",
        "bootstrapping",
        "timeline_behind",
        "standby_cluster",
        "dcs_silent",
        "no_members",
        "member_silent",
        "no_primary",
        "two_primaries",
        "not_last_leader",
        "no_replica",
    ];

    /// The name used as a metric label and in scenario files.
    pub const fn code(&self) -> &'static str {
        Self::CODES[self.index()]
    }

    const fn index(&self) -> usize {
        match self {
            Self::Starting => 0,
            Self::NoLeader => 1,
            Self::LeaderAddressUnknown(_) => 2,
            Self::LeaseUnconfirmed(_) => 3,
            Self::LeaseExpiring(_) => 4,
            Self::LeaderNotProbed(_) => 5,
            Self::LeaderInRecovery(_) => 6,
            Self::LeaderProbeFailed(..) => 7,
            Self::LeaderSilent(_) => 8,
            Self::LeaderNotAcceptingConnections(_) => 9,
            Self::SystemIdMismatch(..) => 10,
            Self::Bootstrapping => 11,
            Self::TimelineBehind { .. } => 12,
            Self::StandbyCluster => 13,
            Self::DcsSilent => 14,
            Self::NoMembers => 15,
            Self::MemberSilent(_) => 16,
            Self::NoPrimary => 17,
            Self::TwoPrimaries(..) => 18,
            Self::NotLastLeader(_) => 19,
            Self::NoReplica => 20,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("nothing is known of the cluster yet"),
            Self::NoLeader => f.write_str("no member holds the leader key"),
            Self::LeaderAddressUnknown(member) => {
                write!(f, "{member} holds the leader key but publishes no address")
            }
            Self::LeaseUnconfirmed(member) => write!(f, "the lease of {member} is not confirmed yet"),
            Self::LeaseExpiring(member) => write!(f, "{member} does not renew its lease"),
            Self::LeaderNotProbed(member) => write!(f, "{member} took the leader key and is being asked"),
            Self::LeaderInRecovery(member) => write!(f, "{member} holds the leader key but is in recovery"),
            Self::LeaderProbeFailed(member, failure) => {
                write!(f, "{member} holds the leader key but {failure}")
            }
            Self::LeaderSilent(member) => write!(f, "{member} holds the leader key but has fallen silent"),
            Self::LeaderNotAcceptingConnections(member) => write!(f, "{member} takes no new connections"),
            Self::SystemIdMismatch(member, found) => {
                write!(
                    f,
                    "the server at the address of {member} belongs to another cluster, system identifier {found}"
                )
            }
            Self::Bootstrapping => f.write_str("the cluster is being created"),
            Self::TimelineBehind { member, timeline, highest } => {
                write!(
                    f,
                    "{member} is on timeline {timeline} while another member reports timeline {highest}"
                )
            }
            Self::StandbyCluster => f.write_str("this is a standby cluster and takes no writes"),
            Self::DcsSilent => {
                f.write_str("the cluster's store is silent and the lease of the leader has run out")
            }
            Self::NoMembers => f.write_str("no member of the cluster is known"),
            Self::MemberSilent(member) => write!(f, "{member} is silent and might have been promoted"),
            Self::NoPrimary => f.write_str("every member is in recovery"),
            Self::TwoPrimaries(one, other) => write!(f, "both {one} and {other} are out of recovery"),
            Self::NotLastLeader(member) => {
                write!(f, "{member} is out of recovery but did not hold the leader key last")
            }
            Self::NoReplica => f.write_str("no replica is fit to be read from"),
        }
    }
}
