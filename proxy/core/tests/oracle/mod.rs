//! The rules once more, naively: recomputed from the raw list of what was heard, with none of the router's own code.
//!
//! Slow and repetitive on purpose. Where the router keeps the latest fact, this searches the whole past for it.

#![allow(dead_code, reason = "each test crate uses a part of the oracle")]
#![allow(clippy::wildcard_enum_match_arm, reason = "each question is about one kind of observation")]

use std::collections::BTreeMap;
use std::time::Duration;

use pg_leader_proxy_core::{
    Basis, ClusterConfig, LeaderKey, Member, MemberName, Moment, Observation, OnDcsLoss, Policy,
    PolicyOptions, ProbeFailure, ProbeReply, Role, ServerAddr, Sources, Stamped, SystemId, Timeline,
};

use crate::script::{Event, Step};

/// All that was heard, and the present moment.
pub(crate) struct Oracle<'a> {
    /// The steps so far, the oldest first.
    pub(crate) heard: &'a [Step],
    /// The present.
    pub(crate) now: Moment,
}

/// Who may be written to, by which rule, until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) member: MemberName,
    pub(crate) basis: Basis,
    pub(crate) until: Moment,
}

/// A member at one address, and the step from which its answers count.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stay {
    addr: ServerAddr,
    since: usize,
}

impl<'a> Oracle<'a> {
    /// The leader by the rules of the design, if there is one.
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

    /// Rule 1 to 3 of the design: key, lease, own word, identity, timeline.
    pub(crate) fn by_lease(&self, member: &MemberName) -> Option<Verdict> {
        let limit = self.options().max_probe_age;
        let (key, seen) = self.key()?;
        let horizon = self.horizon()?;
        let (sent, word) = self.word(member)?;
        let holds = key.holder == *member && self.members().contains_key(member) && self.now < horizon;
        let speaks = sent >= seen && self.now < sent + limit;
        let ours = self.initialize() == Some(word.system_id);
        let leads = is_primary(word) && word.timeline() >= self.highest_timeline(limit);
        (holds && speaks && ours && leads).then(|| Verdict {
            member: member.clone(),
            basis: Basis::Lease,
            until: horizon.min(sent + limit),
        })
    }

    /// The all-members rule: everybody answers, exactly one is out of recovery, it held the key last, nobody is ahead.
    pub(crate) fn by_all_members(&self, last_holder: Option<&MemberName>) -> Option<Verdict> {
        let options = self.options();
        let limit =
            |word| if is_primary(word) { options.max_probe_age } else { options.max_member_probe_age };
        let since = self.key_changed();
        let mut words = Vec::new();
        for member in self.stays().keys() {
            let (sent, word) = self.word(member)?;
            if self.now >= sent + limit(word) || since.is_some_and(|since| sent < since) {
                return None;
            }
            words.push((member.clone(), sent, word));
        }
        let cluster = self.initialize().or_else(|| words.first().map(|(_, _, word)| word.system_id))?;
        let primaries: Vec<_> = words.iter().filter(|(_, _, word)| is_primary(*word)).collect();
        let [(member, _, word)] = primaries[..] else { return None };
        let one_cluster = words.iter().all(|(_, _, word)| word.system_id == cluster);
        let newest = words.iter().all(|(_, _, other)| other.timeline() <= word.timeline());
        let last = last_holder.is_none_or(|holder| holder == member);
        (one_cluster && newest && last).then(|| Verdict {
            member: member.clone(),
            basis: Basis::AllMembers,
            until: words.iter().map(|(_, sent, word)| *sent + limit(*word)).min().unwrap_or_default(),
        })
    }

    /// The policy in force.
    pub(crate) fn options(&self) -> PolicyOptions {
        let last = self.heard.iter().rev().find_map(|step| match &step.event {
            Event::Policy(policy) => Some(*policy),
            Event::Observe(_) | Event::Tick => None,
        });
        *last.unwrap_or_else(Policy::default).options()
    }

    /// The leader key and since when it has been seen so.
    pub(crate) fn key(&self) -> Option<(&'a LeaderKey, Moment)> {
        let keys = self.key_observations();
        let (present, ..) = keys.last()?;
        let run = keys.iter().rev().take_while(|(key, ..)| key == present);
        let (_, _, seen) = run.last()?;
        present.map(|key| (key, *seen))
    }

    /// When the key was last seen to be taken or given back.
    pub(crate) fn key_changed(&self) -> Option<Moment> {
        let keys = self.key_observations();
        let (present, ..) = keys.last()?;
        keys.iter().rev().take_while(|(key, ..)| key == present).last().map(|(_, _, seen)| *seen)
    }

    /// The moment at which the lease of the present key, less the margin, is over.
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

    /// The last word of a member that nothing contradicted since, and when it was asked for.
    pub(crate) fn word(&self, member: &MemberName) -> Option<(Moment, ProbeReply)> {
        self.stays().get(member).and_then(|stay| self.word_in(member, stay))
    }

    fn word_in(&self, member: &MemberName, stay: &Stay) -> Option<(Moment, ProbeReply)> {
        let probes: Vec<_> =
            self.heard[stay.since..].iter().filter_map(|step| probe_of(step, member, &stay.addr)).collect();
        let words =
            probes.iter().enumerate().filter_map(|(n, (sent, outcome))| Some((*sent, n, outcome.ok()?)));
        let (sent, arrived, word) = words.max_by_key(|(sent, n, _)| (*sent, *n))?;
        let contradicted = probes
            .iter()
            .enumerate()
            .any(|(n, (asked, outcome))| outcome.is_err_and(found_down) && (*asked, n) > (sent, arrived));
        (!contradicted).then_some((sent, word))
    }

    /// Where each member is and since which step: those that the DCS lists, and those that it lists no more but that
    /// have said ever since, and lately, that they are primaries.
    fn stays(&self) -> BTreeMap<MemberName, Stay> {
        let mut stays: BTreeMap<MemberName, Stay> = BTreeMap::new();
        let mut listed: Option<&BTreeMap<MemberName, Member>> = None;
        for (n, step) in self.heard.iter().enumerate() {
            let before = Oracle { heard: &self.heard[..n], now: step.at };
            stays.retain(|name, stay| is_listed(listed, name) || before.lately_primary(name, stay));
            if let Event::Observe(Observation::Members(members)) = &step.event {
                listed = Some(members);
                for (name, member) in members {
                    if stays.get(name).is_none_or(|stay| stay.addr != member.addr) {
                        stays.insert(name.clone(), Stay { addr: member.addr.clone(), since: n });
                    }
                }
            }
            let after = Oracle { heard: &self.heard[..=n], now: step.at };
            stays.retain(|name, stay| is_listed(listed, name) || after.lately_primary(name, stay));
        }
        stays.retain(|name, stay| is_listed(listed, name) || self.lately_primary(name, stay));
        stays
    }

    fn lately_primary(&self, member: &MemberName, stay: &Stay) -> bool {
        self.word_in(member, stay)
            .is_some_and(|(sent, word)| is_primary(word) && self.now < sent + self.options().max_probe_age)
    }

    /// Every member that says it is out of recovery, belongs to the cluster and said so recently.
    pub(crate) fn primaries(&self) -> Vec<MemberName> {
        self.fresh_replies(self.options().max_probe_age)
            .into_iter()
            .filter(|(_, word)| is_primary(*word))
            .map(|(member, _)| member)
            .collect()
    }

    fn highest_timeline(&self, limit: Duration) -> Option<Timeline> {
        self.fresh_replies(limit).into_iter().filter_map(|(_, word)| word.timeline()).max()
    }

    fn fresh_replies(&self, limit: Duration) -> Vec<(MemberName, ProbeReply)> {
        let ours = self.initialize();
        self.stays()
            .into_keys()
            .filter_map(|member| {
                let (sent, word) = self.word(&member)?;
                let counts = self.now < sent + limit && ours.is_none_or(|id| id == word.system_id);
                counts.then_some((member, word))
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
        self.heard.iter().filter_map(|step| match &step.event {
            Event::Observe(observation) => Some(observation),
            Event::Policy(_) | Event::Tick => None,
        })
    }
}

fn is_listed(listed: Option<&BTreeMap<MemberName, Member>>, member: &MemberName) -> bool {
    listed.is_some_and(|all| all.contains_key(member))
}

/// Whether a server says that it is out of recovery.
pub(crate) const fn is_primary(word: ProbeReply) -> bool {
    matches!(word.role, Role::Primary { .. })
}

/// Whether a failure means that the server is gone, and not only that it could not be asked.
const fn found_down(failure: ProbeFailure) -> bool {
    matches!(failure, ProbeFailure::Refused | ProbeFailure::StartingUp | ProbeFailure::ShuttingDown)
}

fn probe_of(
    step: &Step,
    asked: &MemberName,
    here: &ServerAddr,
) -> Option<(Moment, Result<ProbeReply, ProbeFailure>)> {
    match &step.event {
        Event::Observe(Observation::Probe { member, addr, sent, outcome, .. })
            if member == asked && addr == here =>
        {
            Some((*sent, *outcome))
        }
        _ => None,
    }
}
