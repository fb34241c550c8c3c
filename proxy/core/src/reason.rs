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
    HolderUnknown(MemberName),
    /// The lease of the leader key has not been confirmed yet.
    LeaseUnread(MemberName),
    /// The lease of the leader key is at its end, and its holder does not renew it.
    LeaseEnding(MemberName),
    /// The holder of the key has not been asked since it took the key.
    HolderUnasked(MemberName),
    /// The holder of the key still is, or again is, in recovery.
    HolderInRecovery(MemberName),
    /// The holder of the key gave no word.
    HolderFailed(MemberName, ProbeFailure),
    /// The holder's last word is too old.
    HolderSilent(MemberName),
    /// The holder takes no new connections, though it answers on open ones.
    HolderTakesNoConnections(MemberName),
    /// The server at the member's address belongs to another cluster.
    OtherCluster(MemberName, SystemId),
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
    RivalSilent(MemberName),
    /// Without the DCS: no member is out of recovery.
    NoPrimary,
    /// Without the DCS: more than one member is out of recovery.
    TwoPrimaries(MemberName, MemberName),
    /// Without the DCS: the one primary is not the member that held the key last.
    NotLastHolder(MemberName),
    /// No replica is fit to be read from.
    NoReplica,
}

impl Reason {
    /// Every code, for metrics that name them all.
    pub const CODES: [&'static str; 21] = [
        "starting",
        "no_leader",
        "holder_unknown",
        "lease_unread",
        "lease_ending",
        "holder_unasked",
        "holder_in_recovery",
        "holder_failed",
        "holder_silent",
        "holder_takes_no_connections",
        "other_cluster",
        "bootstrapping",
        "timeline_behind",
        "standby_cluster",
        "dcs_silent",
        "no_members",
        "rival_silent",
        "no_primary",
        "two_primaries",
        "not_last_holder",
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
            Self::HolderUnknown(_) => 2,
            Self::LeaseUnread(_) => 3,
            Self::LeaseEnding(_) => 4,
            Self::HolderUnasked(_) => 5,
            Self::HolderInRecovery(_) => 6,
            Self::HolderFailed(..) => 7,
            Self::HolderSilent(_) => 8,
            Self::HolderTakesNoConnections(_) => 9,
            Self::OtherCluster(..) => 10,
            Self::Bootstrapping => 11,
            Self::TimelineBehind { .. } => 12,
            Self::StandbyCluster => 13,
            Self::DcsSilent => 14,
            Self::NoMembers => 15,
            Self::RivalSilent(_) => 16,
            Self::NoPrimary => 17,
            Self::TwoPrimaries(..) => 18,
            Self::NotLastHolder(_) => 19,
            Self::NoReplica => 20,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("nothing is known of the cluster yet"),
            Self::NoLeader => f.write_str("no member holds the leader key"),
            Self::HolderUnknown(member) => {
                write!(f, "{member} holds the leader key but publishes no address")
            }
            Self::LeaseUnread(member) => write!(f, "the lease of {member} is not confirmed yet"),
            Self::LeaseEnding(member) => write!(f, "{member} does not renew its lease"),
            Self::HolderUnasked(member) => write!(f, "{member} took the leader key and is being asked"),
            Self::HolderInRecovery(member) => write!(f, "{member} holds the leader key but is in recovery"),
            Self::HolderFailed(member, failure) => write!(f, "{member} holds the leader key but {failure}"),
            Self::HolderSilent(member) => write!(f, "{member} holds the leader key but has fallen silent"),
            Self::HolderTakesNoConnections(member) => write!(f, "{member} takes no new connections"),
            Self::OtherCluster(member, found) => {
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
            Self::RivalSilent(member) => write!(f, "{member} is silent and might have been promoted"),
            Self::NoPrimary => f.write_str("every member is in recovery"),
            Self::TwoPrimaries(one, other) => write!(f, "both {one} and {other} are out of recovery"),
            Self::NotLastHolder(member) => {
                write!(f, "{member} is out of recovery but did not hold the leader key last")
            }
            Self::NoReplica => f.write_str("no replica is fit to be read from"),
        }
    }
}
