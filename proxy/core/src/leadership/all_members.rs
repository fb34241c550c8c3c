//! The all-members rule: every member answers, and exactly one is out of recovery.
//!
//! One silent member might have been promoted, so one silent member ends it. It stands in for the lease where there is
//! none: without a DCS, in Patroni's failsafe mode, in maintenance mode, and where the operator trusts it more than a fence.

use crate::cluster::{MemberName, SystemId};
use crate::evidence::{MemberView, SocketView};
use crate::moment::{Moment, Stamped};
use crate::observation::{ProbeReply, Role};
use crate::policy::Sources;
use crate::reason::Reason;

use super::{Basis, Proof, Rules, Verified};

/// Whose answers are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voters {
    /// Those of everybody on a list that an operator wrote, which is complete.
    List,
    /// Those of everybody that the DCS names or named lately; at least two, because it may have lost records.
    Known,
    /// Those of the members that Patroni's failsafe mode must reach, which Patroni itself takes for complete.
    Failsafe,
}

/// A server that says that it is a primary, whether its answer is needed or not.
struct Claim<'a> {
    member: &'a MemberName,
    reply: ProbeReply,
}

impl<'a> Rules<'a> {
    /// `last_holder` held the leader key last, where that is known.
    pub(super) fn by_all_members(
        &self,
        voters: Voters,
        last_holder: Option<&MemberName>,
    ) -> Result<Proof, Reason> {
        let voters = self.voters(voters, last_holder)?;
        self.one_cluster(&voters)?;
        self.no_second_primary()?;
        let joining = self.joining();
        let mut until: Option<Moment> = None;
        let mut primary = None;
        for (name, member) in voters {
            // From then on its silence counts, so this proof is none any more.
            if let Some((_, counts_from)) = joining.iter().find(|(joins, _)| *joins == name) {
                until = earliest(until, *counts_from);
                continue;
            }
            let (addr, view) = self.speaker(name, member);
            let (reply, end) = self.vote(name, view)?;
            until = earliest(until, end);
            if let (Role::Primary { timeline, .. }, Some(socket)) = (reply.role, view.socket) {
                let found = Verified { member: name, addr, view, socket, server: reply.server(), timeline };
                primary.get_or_insert((found, member));
            }
        }
        let (Some((primary, member)), Some(until)) = (primary, until) else {
            return Err(joining
                .first()
                .map_or(Reason::NoPrimary, |(name, _)| Reason::MemberNotProbed((*name).clone())));
        };
        if last_holder.is_some_and(|holder| holder != primary.member) {
            return Err(Reason::NotLastLeader(primary.member.clone()));
        }
        self.newest_timeline(&primary)?;
        let admission = self.reachable(primary.member, member, primary.view);
        Ok(self.prove(&primary, Basis::AllMembers, admission, until))
    }

    fn voters(
        &self,
        voters: Voters,
        last_holder: Option<&MemberName>,
    ) -> Result<Vec<(&'a MemberName, &'a MemberView)>, Reason> {
        if voters == Voters::Failsafe {
            return self.failsafe_voters(last_holder);
        }
        let known: Vec<_> = self.evidence.members().iter().collect();
        match known[..] {
            [] => Err(Reason::NoMembers),
            [(name, _)] if voters == Voters::Known => Err(Reason::SingleMember(name.clone())),
            _ => Ok(known),
        }
    }

    fn failsafe_voters(
        &self,
        last_holder: Option<&MemberName>,
    ) -> Result<Vec<(&'a MemberName, &'a MemberView)>, Reason> {
        let names = self.evidence.failsafe();
        if let Some(holder) = last_holder.filter(|holder| !names.contains(*holder)) {
            return Err(Reason::NotInFailsafe(holder.clone()));
        }
        let known = |name| self.evidence.member(name).map(|member| (name, member));
        names
            .iter()
            .map(|name| known(name).ok_or_else(|| Reason::MemberAddressUnknown(name.clone())))
            .collect()
    }

    /// Every voter that answers belongs to the same cluster.
    fn one_cluster(&self, voters: &[(&'a MemberName, &'a MemberView)]) -> Result<(), Reason> {
        let mut cluster: Option<SystemId> = self.cluster();
        for &(name, member) in voters {
            let (_, view) = self.speaker(name, member);
            let Some(reply) = self.evidence.fresh_reply(view, self.now, self.policy.options().max_probe_age)
            else {
                continue;
            };
            if *cluster.get_or_insert(reply.fact.system_id) != reply.fact.system_id {
                return Err(Reason::SystemIdMismatch(name.clone(), reply.fact.system_id));
            }
        }
        Ok(())
    }

    /// No two servers of this cluster say that they are primaries, whoever they are.
    fn no_second_primary(&self) -> Result<(), Reason> {
        let mut first: Option<Claim<'_>> = None;
        for claim in self.claims() {
            match &first {
                Some(known) if known.reply.server() != claim.reply.server() => {
                    return Err(Reason::TwoPrimaries(known.member.clone(), claim.member.clone()));
                }
                Some(_) => {}
                None => first = Some(claim),
            }
        }
        Ok(())
    }

    fn claims(&self) -> impl Iterator<Item = Claim<'a>> {
        self.evidence
            .members()
            .iter()
            .flat_map(|(member, known)| known.views().map(move |view| (member, view)))
            .filter_map(|(member, view)| Some(Claim { member, reply: self.primary(view)?.0 }))
    }

    /// A member's reply and when it will be too old: sent since the leader key last changed, and fresh.
    fn vote(&self, name: &MemberName, view: &SocketView) -> Result<(ProbeReply, Moment), Reason> {
        let options = self.policy.options();
        let limit = |reply: &Stamped<ProbeReply>| {
            if reply.fact.is_primary() { options.max_probe_age } else { options.max_member_probe_age }
        };
        let since = self.evidence.leadership_changed().max(self.evidence.clock_stepped());
        let counts = |sent: Moment| Some(sent) >= since;
        match (view.reply, view.failure) {
            (Some(reply), _) if counts(reply.sent) && self.is_fresh(reply.sent, limit(&reply)) => {
                Ok((reply.fact, reply.sent + limit(&reply)))
            }
            (_, Some(failure)) if counts(failure.sent) => {
                Err(Reason::MemberProbeFailed(name.clone(), failure.fact))
            }
            (Some(reply), _) if !counts(reply.sent) && self.now < reply.sent + limit(&reply) => {
                Err(Reason::MemberNotProbed(name.clone()))
            }
            (Some(_), _) => Err(Reason::MemberSilent(name.clone())),
            (None, _) => Err(Reason::MemberNotProbed(name.clone())),
        }
    }

    fn newest_timeline(&self, primary: &Verified<'_>) -> Result<(), Reason> {
        let options = self.policy.options();
        let limit = options.max_probe_age.max(options.max_member_probe_age);
        match self.evidence.highest_timeline(self.now, limit) {
            Some((highest, other)) if highest > primary.timeline => Err(Reason::TimelineBehind {
                member: primary.member.clone(),
                timeline: primary.timeline,
                other: other.clone(),
                highest,
            }),
            _ => Ok(()),
        }
    }

    /// Members that are new on the list, or at their address, while a leadership stands, and when their silence begins to
    /// count. Where a lease stood and has run out it counts at once: nobody has answered for the leader yet.
    pub(super) fn joining(&self) -> Vec<(&'a MemberName, Moment)> {
        let asks_dcs = self.policy.options().sources == Sources::DcsAndServers;
        if self.standing.is_none_or(|standing| standing.basis == Basis::Lease && asks_dcs) {
            return Vec::new();
        }
        let limit = self.policy.options().max_member_probe_age;
        let silent = |name: &MemberName| {
            self.evidence.member(name).is_some_and(|member| !self.speaker(name, member).1.has_replied())
        };
        self.evidence.joining(self.now, limit).filter(|(name, _)| silent(name)).collect()
    }
}

fn earliest(one: Option<Moment>, other: Moment) -> Option<Moment> {
    Some(one.map_or(other, |one| one.min(other)))
}
