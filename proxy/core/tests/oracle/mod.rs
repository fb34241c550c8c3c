//! The oracle: the rules again, computed naively from the whole history, without any of the router's code.
//!
//! It is slow and repetitive on purpose. Where the router keeps the latest fact, the oracle searches the whole history.

#![allow(dead_code, reason = "each test crate uses a part of the oracle")]
#![allow(clippy::wildcard_enum_match_arm, reason = "each question is about one kind of observation")]

use std::collections::BTreeMap;
use std::time::Duration;

use pg_leader_proxy_core::{
    Basis, ClusterConfig, LeaderKey, Member, MemberName, Moment, Observation, OnDcsLoss, Policy,
    PolicyOptions, ProbeFailure, ProbeReply, Role, ServerAddr, Sources, Stamped, SystemId, Timeline,
};

use crate::script::{Input, Step};

/// A history and the present moment.
pub(crate) struct Oracle<'a> {
    /// The steps so far, the oldest first.
    pub(crate) steps: &'a [Step],
    /// The present.
    pub(crate) now: Moment,
}

/// Which member may be written to, by which rule, until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) member: MemberName,
    pub(crate) basis: Basis,
    pub(crate) until: Moment,
}

/// A member's address, and the step from which replies from it count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AddressSince {
    addr: ServerAddr,
    since: usize,
}

impl<'a> Oracle<'a> {
    /// The leader according to the rules, if there is one.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        if self.options().sources == Sources::ServersOnly {
            return self.by_all_members(None);
        }
        if self.config().standby_cluster {
            return None;
        }
        if let Some((key, _)) = self.key()
            && self.horizon().is_some_and(|horizon| self.now < horizon)
        {
            return self.by_lease(&key.holder);
        }
        let silent_past_lease = self.dcs_is_silent() && self.options().on_dcs_loss == OnDcsLoss::AllMembers;
        let lease_is_over = self.key().is_none() || self.horizon().is_some();
        let paused_without_lease =
            !self.dcs_is_silent() && self.dcs_was_seen() && lease_is_over && self.is_paused();
        if silent_past_lease {
            return self.last_holder().and_then(|holder| self.by_all_members(Some(holder)));
        }
        if paused_without_lease { self.by_all_members(self.last_holder()) } else { None }
    }

    /// The lease rule: key, lease, own reply, system identifier, timeline.
    pub(crate) fn by_lease(&self, member: &MemberName) -> Option<Verdict> {
        let limit = self.options().max_probe_age;
        let (key, seen) = self.key()?;
        let horizon = self.horizon()?;
        let (sent, reply) = self.reply(member)?;
        let holds = key.holder == *member && self.members().contains_key(member) && self.now < horizon;
        let speaks = sent >= seen && self.now < sent + limit;
        let ours = self.initialize() == Some(reply.system_id);
        let leads = is_primary(reply) && reply.timeline() >= self.highest_timeline(limit);
        (holds && speaks && ours && leads).then(|| Verdict {
            member: member.clone(),
            basis: Basis::Lease,
            until: horizon.min(sent + limit),
        })
    }

    /// The all-members rule: every member replies, exactly one is out of recovery, it held the key last, and no timeline
    /// is higher.
    pub(crate) fn by_all_members(&self, last_holder: Option<&MemberName>) -> Option<Verdict> {
        let options = self.options();
        let limit =
            |reply| if is_primary(reply) { options.max_probe_age } else { options.max_member_probe_age };
        let since = self.key_changed();
        let mut replies = Vec::new();
        for member in self.addresses().keys() {
            let (sent, reply) = self.reply(member)?;
            if self.now >= sent + limit(reply) || since.is_some_and(|since| sent < since) {
                return None;
            }
            replies.push((member.clone(), sent, reply));
        }
        let cluster = self.initialize().or_else(|| replies.first().map(|(_, _, reply)| reply.system_id))?;
        let primaries: Vec<_> = replies.iter().filter(|(_, _, reply)| is_primary(*reply)).collect();
        let [(member, _, reply)] = primaries[..] else { return None };
        let one_cluster = replies.iter().all(|(_, _, reply)| reply.system_id == cluster);
        let newest = replies.iter().all(|(_, _, other)| other.timeline() <= reply.timeline());
        let last = last_holder.is_none_or(|holder| holder == member);
        (one_cluster && newest && last).then(|| Verdict {
            member: member.clone(),
            basis: Basis::AllMembers,
            until: replies.iter().map(|(_, sent, reply)| *sent + limit(*reply)).min().unwrap_or_default(),
        })
    }

    /// The policy in force.
    pub(crate) fn options(&self) -> PolicyOptions {
        let last = self.steps.iter().rev().find_map(|step| match &step.input {
            Input::Policy(policy) => Some(*policy),
            Input::Observe(_) | Input::Tick => None,
        });
        *last.unwrap_or_else(Policy::default).options()
    }

    /// The leader key, and since when it has been seen with this value.
    pub(crate) fn key(&self) -> Option<(&'a LeaderKey, Moment)> {
        let keys = self.key_observations();
        let (present, ..) = keys.last()?;
        let run = keys.iter().rev().take_while(|(key, ..)| key == present);
        let (_, _, seen) = run.last()?;
        present.map(|key| (key, *seen))
    }

    /// When the key was last seen to be taken or given up.
    pub(crate) fn key_changed(&self) -> Option<Moment> {
        let keys = self.key_observations();
        let (present, ..) = keys.last()?;
        keys.iter().rev().take_while(|(key, ..)| key == present).last().map(|(_, _, seen)| *seen)
    }

    /// The end of the present key's lease, minus the margin.
    pub(crate) fn horizon(&self) -> Option<Moment> {
        let keys = self.key_observations();
        let (present, ..) = keys.last()?;
        present.as_ref()?;
        let run = keys.iter().rev().take_while(|(key, ..)| key == present);
        let lease = run.filter_map(|(_, lease, _)| *lease).next()?;
        let end = lease.sent.since_boot() + lease.fact;
        Some(Moment::from_boot(end.saturating_sub(self.options().lease_margin)))
    }

    pub(crate) fn dcs_was_seen(&self) -> bool {
        !self.key_observations().is_empty()
    }

    pub(crate) fn dcs_is_silent(&self) -> bool {
        self.dcs_was_seen()
            && self.observations().rev().find_map(|observation| match observation {
                Observation::DcsSilent { .. } => Some(true),
                Observation::LeaderKey { .. } => Some(false),
                _ => None,
            }) == Some(true)
    }

    /// A member's last reply, unless something has contradicted it since, and when it was asked for.
    pub(crate) fn reply(&self, member: &MemberName) -> Option<(Moment, ProbeReply)> {
        self.addresses().get(member).and_then(|known| self.reply_in(member, known))
    }

    fn reply_in(&self, member: &MemberName, known: &AddressSince) -> Option<(Moment, ProbeReply)> {
        let probes: Vec<_> =
            self.steps[known.since..].iter().filter_map(|step| probe_of(step, member, &known.addr)).collect();
        let replies =
            probes.iter().enumerate().filter_map(|(n, (sent, outcome))| Some((*sent, n, outcome.ok()?)));
        let (sent, arrived, reply) = replies.max_by_key(|(sent, n, _)| (*sent, *n))?;
        let contradicted = probes
            .iter()
            .enumerate()
            .any(|(n, (asked, outcome))| outcome.is_err_and(means_down) && (*asked, n) > (sent, arrived));
        (!contradicted).then_some((sent, reply))
    }

    /// The address of each member, and since which step: of those that the DCS lists, and of those that it no longer lists
    /// but that have reported ever since that they are primaries.
    fn addresses(&self) -> BTreeMap<MemberName, AddressSince> {
        let mut addresses: BTreeMap<MemberName, AddressSince> = BTreeMap::new();
        let mut listed: Option<&BTreeMap<MemberName, Member>> = None;
        for (n, step) in self.steps.iter().enumerate() {
            let before = Oracle { steps: &self.steps[..n], now: step.at };
            addresses.retain(|name, known| is_listed(listed, name) || before.recently_primary(name, known));
            if let Input::Observe(Observation::Members(members)) = &step.input {
                listed = Some(members);
                for (name, member) in members {
                    if addresses.get(name).is_none_or(|known| known.addr != member.addr) {
                        addresses.insert(name.clone(), AddressSince { addr: member.addr.clone(), since: n });
                    }
                }
            }
            let after = Oracle { steps: &self.steps[..=n], now: step.at };
            addresses.retain(|name, known| is_listed(listed, name) || after.recently_primary(name, known));
        }
        addresses.retain(|name, known| is_listed(listed, name) || self.recently_primary(name, known));
        addresses
    }

    fn recently_primary(&self, member: &MemberName, known: &AddressSince) -> bool {
        self.reply_in(member, known)
            .is_some_and(|(sent, reply)| is_primary(reply) && self.now < sent + self.options().max_probe_age)
    }

    /// The members of this cluster that recently reported that they are out of recovery.
    pub(crate) fn primaries(&self) -> Vec<MemberName> {
        self.fresh_replies(self.options().max_probe_age)
            .into_iter()
            .filter(|(_, reply)| is_primary(*reply))
            .map(|(member, _)| member)
            .collect()
    }

    fn highest_timeline(&self, limit: Duration) -> Option<Timeline> {
        self.fresh_replies(limit).into_iter().filter_map(|(_, reply)| reply.timeline()).max()
    }

    fn fresh_replies(&self, limit: Duration) -> Vec<(MemberName, ProbeReply)> {
        let ours = self.initialize();
        self.addresses()
            .into_keys()
            .filter_map(|member| {
                let (sent, reply) = self.reply(&member)?;
                let counts = self.now < sent + limit && ours.is_none_or(|id| id == reply.system_id);
                counts.then_some((member, reply))
            })
            .collect()
    }

    pub(crate) fn members(&self) -> BTreeMap<MemberName, Member> {
        let last = self.observations().rev().find_map(|observation| match observation {
            Observation::Members(members) => Some(members.clone()),
            _ => None,
        });
        last.unwrap_or_default()
    }

    /// Whether the cluster is in maintenance mode.
    pub(crate) fn is_paused(&self) -> bool {
        self.config().paused
    }

    fn config(&self) -> ClusterConfig {
        let last = self.observations().rev().find_map(|observation| match observation {
            Observation::Config(config) => Some(*config),
            _ => None,
        });
        last.unwrap_or_default()
    }

    pub(crate) fn initialize(&self) -> Option<SystemId> {
        self.observations().rev().find_map(|observation| match observation {
            Observation::Initialize(id) => Some(*id),
            _ => None,
        })?
    }

    fn last_holder(&self) -> Option<&'a MemberName> {
        self.key_observations().iter().rev().find_map(|(key, ..)| Some(&(*key)?.holder))
    }

    #[expect(clippy::type_complexity, reason = "the fields of one observation, in its own order")]
    fn key_observations(&self) -> Vec<(Option<&'a LeaderKey>, Option<Stamped<Duration>>, Moment)> {
        self.observations()
            .filter_map(|observation| match observation {
                Observation::LeaderKey { key, lease, seen } => Some((key.as_ref(), *lease, *seen)),
                _ => None,
            })
            .collect()
    }

    fn observations(&self) -> impl DoubleEndedIterator<Item = &'a Observation> + use<'a> {
        self.steps.iter().filter_map(|step| match &step.input {
            Input::Observe(observation) => Some(observation),
            Input::Policy(_) | Input::Tick => None,
        })
    }
}

fn is_listed(listed: Option<&BTreeMap<MemberName, Member>>, member: &MemberName) -> bool {
    listed.is_some_and(|all| all.contains_key(member))
}

/// Whether a server reports that it is out of recovery.
pub(crate) const fn is_primary(reply: ProbeReply) -> bool {
    matches!(reply.role, Role::Primary { .. })
}

/// Whether a failure means that the server is down, and not only that it could not be probed.
const fn means_down(failure: ProbeFailure) -> bool {
    matches!(failure, ProbeFailure::Refused | ProbeFailure::StartingUp | ProbeFailure::ShuttingDown)
}

fn probe_of(
    step: &Step,
    asked: &MemberName,
    here: &ServerAddr,
) -> Option<(Moment, Result<ProbeReply, ProbeFailure>)> {
    match &step.input {
        Input::Observe(Observation::Probe { member, addr, sent, outcome, .. })
            if member == asked && addr == here =>
        {
            Some((*sent, *outcome))
        }
        _ => None,
    }
}
