//! Which alarms the evidence gives cause for, at one moment.

use std::time::Duration;

use crate::cluster::MemberName;
use crate::evidence::{Evidence, MemberView, SocketView};
use crate::leadership::{Basis, Leader};
use crate::moment::Moment;
use crate::observation::{ProbeFailure, Role};
use crate::policy::{Policy, Sources};
use crate::reason::Reason;
use crate::restrictions::Restrictions;

use super::{AddressLeadsTo, Alarm};

/// How long the alarm stands that the clock was stepped.
pub(crate) const CLOCK_STEPPED_FOR: Duration = Duration::from_secs(60);

/// All alarms, in their order; `leader` is the confirmed one.
pub(crate) fn alarms(
    evidence: &Evidence,
    policy: &Policy,
    restrictions: &Restrictions,
    leader: Option<&Leader>,
    now: Moment,
) -> Vec<Alarm> {
    let raiser = Raiser { evidence, policy, leader, now };
    let mut alarms = Vec::new();
    raiser.primaries(&mut alarms);
    raiser.timelines(&mut alarms);
    raiser.silence(&mut alarms);
    evidence.members().iter().for_each(|(name, member)| raiser.member(name, member, &mut alarms));
    raiser.store(&mut alarms);
    if evidence.clock_stepped().is_some_and(|stepped| now < stepped + CLOCK_STEPPED_FOR) {
        alarms.push(Alarm::ClockStepped);
    }
    alarms.extend(restrictions.paused.then_some(Alarm::PausedByOperator));
    alarms.extend(restrictions.drained.iter().cloned().map(Alarm::MemberDrained));
    alarms.sort();
    alarms.dedup();
    alarms
}

struct Raiser<'a> {
    evidence: &'a Evidence,
    policy: &'a Policy,
    leader: Option<&'a Leader>,
    now: Moment,
}

impl Raiser<'_> {
    fn limit(&self) -> Duration {
        self.policy.options().max_probe_age
    }

    /// One server that is known by two names is one primary.
    fn primaries(&self, alarms: &mut Vec<Alarm>) {
        let (mut servers, mut primaries) = (Vec::new(), Vec::new());
        for (member, _, reply) in self.evidence.fresh_replies(self.now, self.limit()) {
            if let Role::Primary { timeline, .. } = reply.role
                && !servers.contains(&reply.server())
            {
                servers.push(reply.server());
                primaries.push((member.clone(), timeline));
            }
        }
        if primaries.len() > 1 {
            alarms.push(Alarm::TwoPrimaries(primaries));
        }
    }

    fn timelines(&self, alarms: &mut Vec<Alarm>) {
        let Some(leader) = self.leader else { return };
        for (member, _, reply) in self.evidence.fresh_replies(self.now, self.limit()) {
            if let Some(timeline) = reply.timeline().filter(|timeline| *timeline > leader.timeline()) {
                alarms.push(Alarm::HigherTimeline {
                    member: member.clone(),
                    timeline,
                    leader: leader.member().clone(),
                    leader_timeline: leader.timeline(),
                });
            }
        }
    }

    fn silence(&self, alarms: &mut Vec<Alarm>) {
        let Some(leader) = self.leader else { return };
        if let Some(Reason::LeaderSilent(member) | Reason::LeaderProbeFailed(member, _)) =
            leader.admission().waits()
        {
            alarms.push(Alarm::LeaderSilent(member.clone()));
        }
    }

    /// Nobody has to look into a member that left.
    fn member(&self, name: &MemberName, member: &MemberView, alarms: &mut Vec<Alarm>) {
        if let Some(leads_to) = member.former.as_ref().and_then(|former| self.leads_to(member, former)) {
            alarms.push(Alarm::AddressMoved(name.clone(), leads_to));
        }
        if member.departed.is_some() {
            return;
        }
        for view in member.views() {
            let answers = self.evidence.fresh_reply(view, self.now, self.limit()).is_some();
            if let Some(failure) = view.keeps_users_out().filter(|_| answers) {
                alarms.push(Alarm::NotAcceptingConnections(name.clone(), failure));
            }
        }
        let view = &member.published;
        alarms.extend(
            [view.failure, view.connect_failure]
                .into_iter()
                .flatten()
                .filter_map(|failure| of_the_monitor(name, failure.fact)),
        );
    }

    /// Where the published address leads, if not to the server that it left.
    fn leads_to(&self, member: &MemberView, former: &SocketView) -> Option<AddressLeadsTo> {
        let published = &member.published;
        let Some(reply) = self.evidence.fresh_reply(published, self.now, self.limit()) else {
            return published.failure.map(|_| AddressLeadsTo::Nobody);
        };
        if former.reply.is_some_and(|left| left.fact.server() == reply.fact.server()) {
            return None;
        }
        let ours = self.evidence.initialize().is_none_or(|id| id == reply.fact.system_id);
        Some(match reply.fact.role {
            _ if !ours => AddressLeadsTo::OtherCluster,
            Role::Primary { .. } => AddressLeadsTo::Primary,
            Role::Replica { .. } => AddressLeadsTo::Replica,
        })
    }

    fn store(&self, alarms: &mut Vec<Alarm>) {
        if self.policy.options().sources == Sources::ServersOnly {
            return;
        }
        let holder = self.evidence.leader_key().map(|key| &key.fact.holder);
        let gone = |holder: &&MemberName| {
            self.evidence.member(holder).is_some_and(|member| member.departed.is_some())
        };
        alarms.extend(holder.filter(gone).map(|holder| Alarm::MemberRecordGone(holder.clone())));
        if self.evidence.initialize_is_gone() {
            alarms.push(Alarm::InitializeGone);
        }
        alarms.extend(self.evidence.config_problem().map(Alarm::from));
        let without_lease = self.leader.filter(|leader| leader.basis() == Basis::AllMembers);
        alarms.extend(without_lease.map(|leader| Alarm::AllMembersRule(leader.member().clone())));
    }
}

fn of_the_monitor(member: &MemberName, failure: ProbeFailure) -> Option<Alarm> {
    match failure {
        ProbeFailure::Denied => Some(Alarm::MonitorDenied(member.clone())),
        ProbeFailure::TooManyConnections => Some(Alarm::MonitorNoConnection(member.clone())),
        ProbeFailure::Failed => Some(Alarm::MonitorFailed(member.clone())),
        ProbeFailure::Refused
        | ProbeFailure::Reset
        | ProbeFailure::Unresolved
        | ProbeFailure::TimedOut
        | ProbeFailure::StartingUp
        | ProbeFailure::ShuttingDown => None,
    }
}
