//! Urgency: whom the probes should ask, and how often, for what the routing waits for.

use crate::evidence::Evidence;
use crate::leadership::Basis;
use crate::observation::ProbeFailure;
use crate::reason::Reason;
use crate::routing::{ProbeUrgency, WriteRoute};

/// How urgently servers are to be asked while `write` is the decision.
pub(crate) fn probe_urgency(write: &WriteRoute, evidence: &Evidence) -> ProbeUrgency {
    match (write.waits(), write) {
        (Some(reason), _) => of_reason(reason),
        (None, WriteRoute::Forward(leader)) if leader.basis() == Basis::AllMembers => ProbeUrgency::Elevated,
        (None, _) if evidence.switchover_announced() => ProbeUrgency::Elevated,
        (None, _) => ProbeUrgency::Normal,
    }
}

fn of_reason(reason: &Reason) -> ProbeUrgency {
    match reason {
        // A server that turns the monitoring user away does so again, and writes each attempt into its log.
        Reason::LeaderProbeFailed(
            _,
            ProbeFailure::Denied | ProbeFailure::TooManyConnections | ProbeFailure::Failed,
        )
        | Reason::StandbyCluster
        | Reason::PausedByOperator
        | Reason::MemberDrained(_) => ProbeUrgency::Normal,
        Reason::LeaseUnconfirmed(member)
        | Reason::LeaderNotProbed(member)
        | Reason::LeaderInRecovery(member)
        | Reason::LeaderProbeFailed(member, _)
        | Reason::LeaderSilent(member) => ProbeUrgency::Burst(member.clone()),
        Reason::Starting(_)
        | Reason::NoLeader
        | Reason::LeaderAddressUnknown(_)
        | Reason::LeaseExpiring(_)
        | Reason::LeaderNotAcceptingConnections(_)
        | Reason::LeaderAmbiguous(_)
        | Reason::SystemIdMismatch(..)
        | Reason::Bootstrapping
        | Reason::ClockStepped
        | Reason::DcsSilent
        | Reason::NoMembers
        | Reason::SingleMember(_)
        | Reason::MemberAddressUnknown(_)
        | Reason::NotInFailsafe(_)
        | Reason::MemberNotProbed(_)
        | Reason::MemberProbeFailed(..)
        | Reason::MemberSilent(_)
        | Reason::NoPrimary
        | Reason::TwoPrimaries(..)
        | Reason::TimelineBehind { .. }
        | Reason::NotLastLeader(_)
        | Reason::NoReplica
        | Reason::MemberIsLeader(_)
        | Reason::ReplicaPromoted(_)
        | Reason::MemberRecordGone(_)
        | Reason::ReplicaMoved(_)
        | Reason::ReplicaRestarted(_)
        | Reason::ReplicaSilent(_)
        | Reason::ReplicaNotAcceptingConnections(_)
        | Reason::ReplicaTagged(_)
        | Reason::ReplicaLagging(_)
        | Reason::ReplicaNotStreaming(_) => ProbeUrgency::Elevated,
    }
}
