//! Continuation: a standing leadership goes on for a short while although no rule proves it at the moment, because what
//! the proof rested on has just changed and nothing speaks against it.

use crate::admission::Admission;
use crate::moment::Moment;
use crate::policy::Sources;
use crate::reason::Reason;

use super::{Proof, Rules, Standing};

/// What is not known at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// The DCS answers nothing.
    Dcs,
    /// The lease of the key, or the reply of its holder.
    Holder,
    /// The replies of other members.
    Members,
}

impl Rules<'_> {
    /// The standing leadership, if it goes on although `reason` keeps the rules from proving it.
    pub(super) fn continuation(&self, reason: Reason) -> Result<Proof, Reason> {
        let Some(missing) = missing(&reason) else { return Err(reason) };
        let Some(standing) =
            self.standing.filter(|standing| self.key_stands(standing) && !self.is_contradicted(standing))
        else {
            return Err(reason);
        };
        if let Some(since) = self.suspended() {
            return Ok(self.go_on_until(standing, since, Reason::ClockStepped));
        }
        let until = match missing {
            Missing::Dcs => None,
            Missing::Holder => self.key_came_or_went(),
            Missing::Members => self.key_came_or_went().max(self.list_changed()),
        };
        until.map(|until| self.go_on_until(standing, until, reason.clone())).ok_or(reason)
    }

    fn go_on_until(&self, standing: &Standing, until: Moment, reason: Reason) -> Proof {
        Proof { leader: standing.clone(), admission: Admission::Waits(reason), until, continues: true }
    }

    /// The clock was stepped: sessions are kept for a while, but from that moment on no byte passes.
    fn suspended(&self) -> Option<Moment> {
        let limit = self.policy.options().max_suspension;
        self.evidence.clock_stepped().filter(|stepped| self.now < *stepped + limit)
    }

    /// Whether the leader key is the one that the leadership rests on. In maintenance mode it may be lost, and taken again
    /// by the same member.
    fn key_stands(&self, standing: &Standing) -> bool {
        let key = self.evidence.leader_key().map(|key| &key.fact);
        let same_holder = key.is_none_or(|key| key.holder == standing.member);
        self.policy.options().sources == Sources::ServersOnly
            || same_holder && (standing.key.as_ref() == key || self.evidence.config().paused)
    }

    /// In maintenance mode the leader key was lost, or its last holder took it again: until when the members have time
    /// to answer.
    fn key_came_or_went(&self) -> Option<Moment> {
        let until = self.evidence.leadership_changed()? + self.policy.options().max_member_probe_age;
        (self.evidence.config().paused && self.now < until).then_some(until)
    }

    /// Somebody is new on the list: until when they have time to answer. The leader itself may be there under another
    /// name.
    fn list_changed(&self) -> Option<Moment> {
        self.joining().into_iter().map(|(_, until)| until).max()
    }

    /// Whether the standing leader's own server was found down, or said that it is no such primary any more.
    fn is_contradicted(&self, standing: &Standing) -> bool {
        let member = self.evidence.member(&standing.member);
        let view = member.and_then(|member| member.views().find(|view| view.socket == Some(standing.socket)));
        view.is_some_and(|view| {
            view.is_down()
                || view.reply.is_some_and(|reply| {
                    let ours = self.is_ours(reply.fact.system_id) && reply.fact.server() == standing.server;
                    !ours || !reply.fact.is_primary() || reply.fact.timeline() != Some(standing.timeline)
                })
        })
    }
}

/// What a reason says is missing, if it says nothing against the leader.
const fn missing(reason: &Reason) -> Option<Missing> {
    match reason {
        Reason::DcsSilent => Some(Missing::Dcs),
        Reason::LeaseUnconfirmed(_)
        | Reason::LeaderNotProbed(_)
        | Reason::LeaderProbeFailed(..)
        | Reason::LeaderSilent(_) => Some(Missing::Holder),
        Reason::MemberNotProbed(_) | Reason::MemberProbeFailed(..) | Reason::MemberSilent(_) => {
            Some(Missing::Members)
        }
        Reason::Starting(_)
        | Reason::NoLeader
        | Reason::LeaderAddressUnknown(_)
        | Reason::LeaseExpiring(_)
        | Reason::LeaderInRecovery(_)
        | Reason::LeaderNotAcceptingConnections(_)
        | Reason::LeaderAmbiguous(_)
        | Reason::SystemIdMismatch(..)
        | Reason::Bootstrapping
        | Reason::StandbyCluster
        | Reason::ClockStepped
        | Reason::NoMembers
        | Reason::SingleMember(_)
        | Reason::MemberAddressUnknown(_)
        | Reason::NotInFailsafe(_)
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
        | Reason::ReplicaNotStreaming(_)
        | Reason::PausedByOperator
        | Reason::MemberDrained(_) => None,
    }
}
