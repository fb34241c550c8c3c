//! Reasons: why nothing is forwarded, with one code and one text for logs, metrics, the admin page and clients.

use std::fmt;

use crate::cluster::{MemberName, SystemId, Timeline};
use crate::observation::ProbeFailure;

/// Why a route forwards nothing. The *leader* is the member that the leader key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing has been observed yet.
    Starting,
    /// No member holds the leader key.
    NoLeader,
    /// The cluster publishes no address for the leader.
    LeaderAddressUnknown(MemberName),
    /// The leader's lease has not been confirmed yet.
    LeaseUnconfirmed(MemberName),
    /// The leader's lease is about to expire, and the leader does not renew it.
    LeaseExpiring(MemberName),
    /// The leader has not been probed since it took the key.
    LeaderNotProbed(MemberName),
    /// The leader is still in recovery, or again.
    LeaderInRecovery(MemberName),
    /// Probes of the leader fail.
    LeaderProbeFailed(MemberName, ProbeFailure),
    /// The leader's last reply is too old.
    LeaderSilent(MemberName),
    /// The leader accepts no new connections, although it replies on open ones.
    LeaderNotAcceptingConnections(MemberName),
    /// The server at the member's address has another system identifier: it belongs to another cluster.
    SystemIdMismatch(MemberName, SystemId),
    /// The cluster is being created and has no system identifier yet.
    Bootstrapping,
    /// Another member reports a higher timeline than the leader.
    TimelineBehind {
        /// The leader.
        member: MemberName,
        /// Its timeline.
        timeline: Timeline,
        /// The highest timeline that any member reports.
        highest: Timeline,
    },
    /// The cluster is a standby cluster and takes no writes.
    StandbyCluster,
    /// The DCS is silent, the last confirmed lease has expired, and the policy is to fence.
    DcsSilent,
    /// All-members rule: no member is known.
    NoMembers,
    /// All-members rule: this member is silent, so it might have been promoted.
    MemberSilent(MemberName),
    /// All-members rule: no member is out of recovery.
    NoPrimary,
    /// All-members rule: more than one member is out of recovery.
    TwoPrimaries(MemberName, MemberName),
    /// All-members rule: the only primary is not the member that last held the leader key.
    NotLastLeader(MemberName),
    /// No replica can be read from.
    NoReplica,
}

impl Reason {
    /// All codes, for metrics with one series for each.
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

    /// The code, used as a metric label and in scenario files. Codes never change after the first release.
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
            Self::Starting => f.write_str("nothing is known about the cluster yet"),
            Self::NoLeader => f.write_str("no member holds the leader key"),
            Self::LeaderAddressUnknown(member) => {
                write!(f, "{member} holds the leader key but publishes no address")
            }
            Self::LeaseUnconfirmed(member) => write!(f, "the lease of {member} is not confirmed yet"),
            Self::LeaseExpiring(member) => write!(f, "{member} does not renew its lease"),
            Self::LeaderNotProbed(member) => {
                write!(f, "{member} took the leader key and has not been probed yet")
            }
            Self::LeaderInRecovery(member) => write!(f, "{member} holds the leader key but is in recovery"),
            Self::LeaderProbeFailed(member, failure) => {
                write!(f, "{member} holds the leader key but {failure}")
            }
            Self::LeaderSilent(member) => {
                write!(f, "{member} holds the leader key but does not reply any more")
            }
            Self::LeaderNotAcceptingConnections(member) => write!(f, "{member} accepts no new connections"),
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
            Self::DcsSilent => f.write_str("the DCS does not answer and the leader's lease has expired"),
            Self::NoMembers => f.write_str("no member of the cluster is known"),
            Self::MemberSilent(member) => write!(f, "{member} is silent and might have been promoted"),
            Self::NoPrimary => f.write_str("every member is in recovery"),
            Self::TwoPrimaries(one, other) => write!(f, "both {one} and {other} are out of recovery"),
            Self::NotLastLeader(member) => {
                write!(f, "{member} is out of recovery but did not hold the leader key last")
            }
            Self::NoReplica => f.write_str("no replica can be read from"),
        }
    }
}
