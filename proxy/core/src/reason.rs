//! Reasons: why sessions wait or end, in one enum that logs, metrics, the admin page and clients all quote.

use std::fmt;

use crate::cluster::{MemberName, SystemId, Timeline};
use crate::dcs_problem::DcsProblem;
use crate::observation::ProbeFailure;

/// What follows is the identifier that was found.
const OF_OTHER_CLUSTER: &str = "belongs to another cluster, system identifier";

/// Why a route forwards to nobody, or a server takes no new sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing has been observed yet; and what keeps the DCS from telling about the cluster, where that is known.
    Starting(Option<DcsProblem>),
    /// No member holds the leader key.
    NoLeader,
    /// The leader key names a member that the cluster never published an address of.
    LeaderAddressUnknown(MemberName),
    /// The leader's lease has not been confirmed yet.
    LeaseUnconfirmed(MemberName),
    /// The leader's lease is about to expire, and the leader does not renew it.
    LeaseExpiring(MemberName),
    /// The leader has not been probed since it took the key.
    LeaderNotProbed(MemberName),
    /// The leader is still in recovery, or again.
    LeaderInRecovery(MemberName),
    /// The holder of the key gave no reply.
    LeaderProbeFailed(MemberName, ProbeFailure),
    /// The holder's last reply is too old.
    LeaderSilent(MemberName),
    /// The leader accepts no new connections, although it replies on open ones.
    LeaderNotAcceptingConnections(MemberName),
    /// The holder's published address leads to another primary than the one that its sessions are on.
    LeaderAmbiguous(MemberName),
    /// The server at the member's address belongs to another cluster.
    SystemIdMismatch(MemberName, SystemId),
    /// The cluster is being created and has no system identifier yet.
    Bootstrapping,
    /// The cluster follows another one and takes no writes.
    StandbyCluster,
    /// The wall clock was stepped, and nothing has been confirmed since.
    ClockStepped,
    /// The DCS is silent past the lease, and nothing else is accepted as a proof.
    DcsSilent,
    /// All-members rule: no member is known.
    NoMembers,
    /// All-members rule: only this member is known, so nobody contradicts it.
    SingleMember(MemberName),
    /// All-members rule: the failsafe key names a member whose address is not known.
    MemberAddressUnknown(MemberName),
    /// All-members rule: the last holder of the key is not named in the failsafe key, so Patroni demotes it.
    NotInFailsafe(MemberName),
    /// All-members rule: this member has not answered since the leader key changed, or since it was put on the list.
    MemberNotProbed(MemberName),
    /// All-members rule: this member gave no reply, and might have been promoted.
    MemberProbeFailed(MemberName, ProbeFailure),
    /// All-members rule: this member's last reply is too old, and it might have been promoted.
    MemberSilent(MemberName),
    /// All-members rule: no member is out of recovery.
    NoPrimary,
    /// All-members rule: more than one server is out of recovery.
    TwoPrimaries(MemberName, MemberName),
    /// All-members rule: another member reports a higher timeline than the primary.
    TimelineBehind {
        /// Who is the primary.
        member: MemberName,
        /// Its timeline.
        timeline: Timeline,
        /// Who reports the highest one.
        other: MemberName,
        /// The highest that any member reported.
        highest: Timeline,
    },
    /// All-members rule: the one primary is not the member that held the key last.
    NotLastLeader(MemberName),
    /// Read route: no replica takes new sessions.
    NoReplica,
    /// Read route: this member is the leader, and replicas take the readers.
    MemberIsLeader(MemberName),
    /// Read route: this replica was promoted.
    ReplicaPromoted(MemberName),
    /// Read route: the cluster does not name this member any more.
    MemberRecordGone(MemberName),
    /// Read route: the published address of this member leads elsewhere.
    ReplicaMoved(MemberName),
    /// Read route: another run of this member's server has replied.
    ReplicaRestarted(MemberName),
    /// Read route: the last reply of this replica is too old.
    ReplicaSilent(MemberName),
    /// Read route: this replica takes no new connections, though it answers on open ones.
    ReplicaNotAcceptingConnections(MemberName),
    /// Read route: this replica carries the tag `noloadbalance`.
    ReplicaTagged(MemberName),
    /// Read route: this replica is further behind than `max_lag`, or cannot tell how far it is.
    ReplicaLagging(MemberName),
    /// Read route: this replica streams from nobody.
    ReplicaNotStreaming(MemberName),
    /// An operator has paused new sessions.
    PausedByOperator,
    /// Read route: an operator has drained this member.
    MemberDrained(MemberName),
}

impl Reason {
    /// Every code, for metrics that name them all.
    pub const CODES: [&'static str; 40] = [
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
        "leader_ambiguous",
        "system_id_mismatch",
        "bootstrapping",
        "standby_cluster",
        "clock_stepped",
        "dcs_silent",
        "no_members",
        "single_member",
        "member_address_unknown",
        "not_in_failsafe",
        "member_not_probed",
        "member_probe_failed",
        "member_silent",
        "no_primary",
        "two_primaries",
        "timeline_behind",
        "not_last_leader",
        "no_replica",
        "member_is_leader",
        "replica_promoted",
        "member_record_gone",
        "replica_moved",
        "replica_silent",
        "replica_not_accepting_connections",
        "replica_tagged",
        "replica_lagging",
        "replica_not_streaming",
        "replica_restarted",
        "paused_by_operator",
        "member_drained",
    ];

    /// The code, used as a metric label and in scenario files. Codes never change after the first release.
    pub const fn code(&self) -> &'static str {
        Self::CODES[self.index()]
    }

    /// Whether it lasts until somebody mends or changes something: a client gains nothing by waiting long.
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::StandbyCluster
            | Self::SystemIdMismatch(..)
            | Self::SingleMember(_)
            | Self::LeaderProbeFailed(_, ProbeFailure::Denied | ProbeFailure::Failed)
            | Self::MemberProbeFailed(_, ProbeFailure::Denied | ProbeFailure::Failed) => true,
            Self::Starting(_)
            | Self::NoLeader
            | Self::LeaderAddressUnknown(_)
            | Self::LeaseUnconfirmed(_)
            | Self::LeaseExpiring(_)
            | Self::LeaderNotProbed(_)
            | Self::LeaderInRecovery(_)
            | Self::LeaderProbeFailed(..)
            | Self::LeaderSilent(_)
            | Self::LeaderNotAcceptingConnections(_)
            | Self::LeaderAmbiguous(_)
            | Self::Bootstrapping
            | Self::ClockStepped
            | Self::DcsSilent
            | Self::NoMembers
            | Self::MemberAddressUnknown(_)
            | Self::NotInFailsafe(_)
            | Self::MemberNotProbed(_)
            | Self::MemberProbeFailed(..)
            | Self::MemberSilent(_)
            | Self::NoPrimary
            | Self::TwoPrimaries(..)
            | Self::TimelineBehind { .. }
            | Self::NotLastLeader(_)
            | Self::NoReplica
            | Self::MemberIsLeader(_)
            | Self::ReplicaPromoted(_)
            | Self::MemberRecordGone(_)
            | Self::ReplicaMoved(_)
            | Self::ReplicaRestarted(_)
            | Self::ReplicaSilent(_)
            | Self::ReplicaNotAcceptingConnections(_)
            | Self::ReplicaTagged(_)
            | Self::ReplicaLagging(_)
            | Self::ReplicaNotStreaming(_)
            | Self::PausedByOperator
            | Self::MemberDrained(_) => false,
        }
    }

    /// The text for clients, of whom anybody may be one: of the DCS it tells no more than the kind of its problem.
    pub const fn for_clients(&self) -> ClientText<'_> {
        ClientText(self)
    }

    const fn index(&self) -> usize {
        match self {
            Self::Starting(_) => 0,
            Self::NoLeader => 1,
            Self::LeaderAddressUnknown(_) => 2,
            Self::LeaseUnconfirmed(_) => 3,
            Self::LeaseExpiring(_) => 4,
            Self::LeaderNotProbed(_) => 5,
            Self::LeaderInRecovery(_) => 6,
            Self::LeaderProbeFailed(..) => 7,
            Self::LeaderSilent(_) => 8,
            Self::LeaderNotAcceptingConnections(_) => 9,
            Self::LeaderAmbiguous(_) => 10,
            Self::SystemIdMismatch(..) => 11,
            Self::Bootstrapping => 12,
            Self::StandbyCluster => 13,
            Self::ClockStepped => 14,
            Self::DcsSilent => 15,
            Self::NoMembers => 16,
            Self::SingleMember(_) => 17,
            Self::MemberAddressUnknown(_) => 18,
            Self::NotInFailsafe(_) => 19,
            Self::MemberNotProbed(_) => 20,
            Self::MemberProbeFailed(..) => 21,
            Self::MemberSilent(_) => 22,
            Self::NoPrimary => 23,
            Self::TwoPrimaries(..) => 24,
            Self::TimelineBehind { .. } => 25,
            Self::NotLastLeader(_) => 26,
            Self::NoReplica => 27,
            Self::MemberIsLeader(_) => 28,
            Self::ReplicaPromoted(_) => 29,
            Self::MemberRecordGone(_) => 30,
            Self::ReplicaMoved(_) => 31,
            Self::ReplicaSilent(_) => 32,
            Self::ReplicaNotAcceptingConnections(_) => 33,
            Self::ReplicaTagged(_) => 34,
            Self::ReplicaLagging(_) => 35,
            Self::ReplicaNotStreaming(_) => 36,
            Self::ReplicaRestarted(_) => 37,
            Self::PausedByOperator => 38,
            Self::MemberDrained(_) => 39,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting(problem) => write_starting(f, problem.as_ref()),
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
            Self::LeaderNotAcceptingConnections(member) | Self::ReplicaNotAcceptingConnections(member) => {
                write!(f, "{member} accepts no new connections")
            }
            Self::LeaderAmbiguous(member) => {
                write!(f, "the address of {member} leads to another primary than the one its sessions are on")
            }
            Self::SystemIdMismatch(member, found) => {
                write!(f, "the server at the address of {member} {OF_OTHER_CLUSTER} {found}")
            }
            Self::Bootstrapping => f.write_str("the cluster is being created"),
            Self::StandbyCluster => f.write_str("this is a standby cluster and takes no writes"),
            Self::ClockStepped => f.write_str("the wall clock was stepped, and nothing is confirmed since"),
            Self::DcsSilent => f.write_str("the DCS does not answer and the leader's lease has expired"),
            Self::NoMembers => f.write_str("no member of the cluster is known"),
            Self::SingleMember(member) => {
                write!(f, "{member} is the only member that is known, so nobody contradicts it")
            }
            Self::MemberAddressUnknown(member) => {
                write!(f, "the failsafe key names {member}, which never published an address")
            }
            Self::NotInFailsafe(member) => {
                write!(f, "the failsafe key does not name {member}, so Patroni demotes it")
            }
            Self::MemberNotProbed(member) => write!(f, "{member} has not replied yet"),
            Self::MemberProbeFailed(member, failure) => {
                write!(f, "{member} {failure} and might have been promoted")
            }
            Self::MemberSilent(member) => write!(f, "{member} is silent and might have been promoted"),
            Self::NoPrimary => f.write_str("every member is in recovery"),
            Self::TwoPrimaries(one, other) => write!(f, "both {one} and {other} are out of recovery"),
            Self::TimelineBehind { member, timeline, other, highest } => {
                write!(f, "{member} is on timeline {timeline} while {other} reports timeline {highest}")
            }
            Self::NotLastLeader(member) => {
                write!(f, "{member} is out of recovery but did not hold the leader key last")
            }
            Self::NoReplica => f.write_str("no replica can be read from"),
            Self::MemberIsLeader(member) => {
                write!(f, "{member} is the leader, and replicas take the readers")
            }
            Self::ReplicaPromoted(member) => write!(f, "{member} was promoted"),
            Self::MemberRecordGone(member) => write!(f, "the cluster does not name {member} any more"),
            Self::ReplicaMoved(member) => write!(f, "the address of {member} leads elsewhere now"),
            Self::ReplicaRestarted(member) => write!(f, "{member} was restarted"),
            Self::ReplicaSilent(member) => write!(f, "{member} does not reply any more"),
            Self::ReplicaTagged(member) => write!(f, "{member} carries the tag noloadbalance"),
            Self::ReplicaLagging(member) => write!(f, "{member} is too far behind"),
            Self::ReplicaNotStreaming(member) => write!(f, "{member} streams from nobody"),
            Self::PausedByOperator => f.write_str("an operator has paused new sessions"),
            Self::MemberDrained(member) => write!(f, "an operator has drained {member}"),
        }
    }
}

fn write_starting(f: &mut fmt::Formatter<'_>, problem: Option<&impl fmt::Display>) -> fmt::Result {
    f.write_str("nothing is known about the cluster yet")?;
    problem.map_or(Ok(()), |problem| write!(f, ": {problem}"))
}

/// A [`Reason`] as clients hear it.
#[derive(Debug)]
pub struct ClientText<'a>(&'a Reason);

impl fmt::Display for ClientText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Reason::Starting(Some(problem)) = self.0 {
            return write_starting(f, Some(&problem.kind));
        }
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs_problem::DcsProblemKind;

    #[test]
    fn a_client_hears_the_kind_of_a_problem_with_the_dcs_and_an_operator_all_of_it() {
        for kind in DcsProblemKind::ALL {
            let text = "http://10.0.0.1:2379: cannot read /etc/etcd/key.pem".to_owned();
            let reason = Reason::Starting(Some(DcsProblem { kind, text: text.clone() }));
            assert_eq!(reason.to_string(), format!("nothing is known about the cluster yet: {text}"));
            let told = reason.for_clients().to_string();
            assert_eq!(told, format!("nothing is known about the cluster yet: {kind}"));
        }
        assert_eq!(Reason::NoLeader.for_clients().to_string(), Reason::NoLeader.to_string());
    }
}
