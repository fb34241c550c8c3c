//! The write route by the table: who leads and until when, whether new sessions go there, and whether it is the leadership that
//! stood before.

use std::time::Duration;

use pg_leader_proxy_core::{
    Basis, Leader, LeaderKey, MemberName, Moment, OnDcsLoss, ProbeReply, Role, ServerId, Timeline,
};

use super::places::{Place, Site};
use super::{Oracle, is_primary};

/// Who may be written to, by which rule, until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) member: MemberName,
    pub(crate) server: ServerId,
    pub(crate) timeline: Timeline,
    pub(crate) basis: Basis,
    pub(crate) until: Moment,
    /// Whether new sessions go there.
    pub(crate) open: bool,
    /// Whether the sessions of the leader that stood before go on.
    pub(crate) continues: bool,
}

/// What a rule comes to.
enum Finding {
    Leads(Verdict),
    /// Something is not known, and nothing speaks against the leader that stands.
    Unknown(Missing),
    Nobody,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Dcs,
    Holder,
    Members,
}

/// Who has to answer.
#[derive(Clone, Copy)]
enum Needed {
    List,
    Known,
    Failsafe,
}

impl Oracle<'_> {
    /// The leader by the table, if there is one.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        match self.finding() {
            Finding::Leads(verdict) => Some(verdict),
            Finding::Unknown(missing) => self.goes_on_for_a_while(missing),
            Finding::Nobody => None,
        }
    }

    fn finding(&self) -> Finding {
        if !self.asks_the_dcs() {
            return self.all_answer(Needed::List, None);
        }
        let config = self.config();
        if !self.dcs_was_seen() || config.standby_cluster {
            return Finding::Nobody;
        }
        let Some((key, seen)) = self.key() else {
            return match (config.paused, self.dcs_is_silent()) {
                (false, _) => Finding::Nobody,
                (true, false) => self.all_answer(Needed::Known, self.last_holder()),
                (true, true) => self.without_dcs(),
            };
        };
        match self.horizon() {
            Some(horizon) if self.now < horizon => self.by_lease(key, seen, horizon),
            _ if self.dcs_is_silent() => self.without_dcs(),
            None => Finding::Unknown(Missing::Holder),
            Some(_) if config.paused => self.all_answer(Needed::Known, Some(&key.holder)),
            Some(_) => Finding::Nobody,
        }
    }

    fn without_dcs(&self) -> Finding {
        let failsafe = self.config().failsafe_mode && !self.failsafe().is_empty();
        match self.options().on_dcs_loss {
            OnDcsLoss::Fence => Finding::Unknown(Missing::Dcs),
            OnDcsLoss::AllMembers => self.all_answer(Needed::Known, self.last_holder()),
            OnDcsLoss::Auto if failsafe => self.all_answer(Needed::Failsafe, self.last_holder()),
            OnDcsLoss::Auto if self.config().paused => self.all_answer(Needed::Known, self.last_holder()),
            OnDcsLoss::Auto => Finding::Unknown(Missing::Dcs),
        }
    }

    /// Whether the leader that stands rests on this very key.
    fn stands_on(&self, key: &LeaderKey) -> bool {
        self.standing().is_some_and(|leader| *leader.member() == key.holder && leader.key() == Some(key))
    }

    fn by_lease(&self, key: &LeaderKey, seen: Moment, horizon: Moment) -> Finding {
        let holder = &key.holder;
        let Some(place) = self.places.get(holder) else { return Finding::Nobody };
        if !self.stands_on(key) {
            return self.begins(holder, place, seen, horizon);
        }
        let Some(site) = self.speaker(holder, place) else {
            return self.lease_verdict(holder, None, horizon);
        };
        if self.is_down(holder, site) {
            return Finding::Unknown(Missing::Holder);
        }
        match self.reply(holder, site) {
            None => self.lease_verdict(holder, Some(site), horizon),
            Some((_, reply)) => match reply.role {
                _ if self.cluster().is_some_and(|ours| ours != reply.system_id) => Finding::Nobody,
                Role::Replica { .. } => Finding::Nobody,
                Role::Primary { timeline, .. } if self.is_standing(reply.server(), timeline) => {
                    self.lease_verdict(holder, Some(site), horizon)
                }
                Role::Primary { .. } => self.begins(holder, place, seen, horizon),
            },
        }
    }

    /// The standing leader, confirmed once more by its lease.
    fn lease_verdict(&self, holder: &MemberName, site: Option<Site>, horizon: Moment) -> Finding {
        let Some(standing) = self.standing() else { return Finding::Nobody };
        Finding::Leads(Verdict {
            member: holder.clone(),
            server: standing.server(),
            timeline: standing.timeline(),
            basis: Basis::Lease,
            until: horizon,
            open: site.is_some_and(|site| self.takes_sessions(holder, site, true)),
            continues: true,
        })
    }

    /// The holder's own reply: sent after its key was seen, fresh, of this cluster, and not in recovery.
    fn begins(&self, holder: &MemberName, place: &Place, seen: Moment, horizon: Moment) -> Finding {
        let limit = self.options().max_probe_age;
        let Some(site) = place.published else { return Finding::Unknown(Missing::Holder) };
        let since = self.stepped().map_or(seen, |stepped| stepped.max(seen));
        let fresh = self.reply(holder, site).filter(|(sent, _)| *sent >= since && self.now < *sent + limit);
        let Some((_, reply)) = fresh else { return Finding::Unknown(Missing::Holder) };
        let (Some(ours), Role::Primary { timeline, .. }) = (self.initialize(), reply.role) else {
            return Finding::Nobody;
        };
        if ours != reply.system_id {
            return Finding::Nobody;
        }
        Finding::Leads(Verdict {
            member: holder.clone(),
            server: reply.server(),
            timeline,
            basis: Basis::Lease,
            until: horizon,
            open: self.takes_sessions(holder, site, true),
            continues: self.is_same_leadership(reply.server(), timeline),
        })
    }

    /// Every one answers, exactly one is out of recovery, it held the key last, and nobody is ahead of it.
    fn all_answer(&self, needed: Needed, last_holder: Option<&MemberName>) -> Finding {
        let names: Vec<&MemberName> = match needed {
            Needed::List | Needed::Known => self.places.keys().collect(),
            Needed::Failsafe => {
                let names = self.failsafe();
                let all_known = names.iter().all(|name| self.places.contains_key(name));
                if !all_known || last_holder.is_some_and(|holder| !names.contains(holder)) {
                    return Finding::Nobody;
                }
                self.places.keys().filter(|name| names.contains(*name)).collect()
            }
        };
        let least = if matches!(needed, Needed::Known) { 2 } else { 1 };
        if names.len() < least || self.is_mixed(&names) || self.claims().len() > 1 {
            return Finding::Nobody;
        }
        let joining = self.joining();
        let (excused, asked): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| joining.iter().any(|(joins, _)| joins == *name));
        let mut votes = Vec::new();
        for name in asked {
            match self.vote(name) {
                Some(vote) => votes.push(vote),
                None => return Finding::Unknown(Missing::Members),
            }
        }
        let excuses_end = joining.iter().filter(|(name, _)| excused.contains(&name)).map(|(_, end)| *end);
        let until = votes.iter().map(|(_, _, _, end)| *end).chain(excuses_end).min();
        let primary = votes.iter().find(|(_, _, reply, _)| is_primary(*reply));
        let (Some((name, site, reply, _)), Some(until)) = (primary, until) else {
            return if joining.is_empty() { Finding::Nobody } else { Finding::Unknown(Missing::Members) };
        };
        let Role::Primary { timeline, .. } = reply.role else { return Finding::Nobody };
        let limit = self.options().max_probe_age.max(self.options().max_member_probe_age);
        let ahead = self.fresh_replies(limit).iter().any(|(_, other)| other.timeline() > Some(timeline));
        if ahead || last_holder.is_some_and(|holder| holder != *name) {
            return Finding::Nobody;
        }
        Finding::Leads(Verdict {
            member: (*name).clone(),
            server: reply.server(),
            timeline,
            basis: Basis::AllMembers,
            until,
            open: self.takes_sessions(name, *site, false),
            continues: self.is_same_leadership(reply.server(), timeline),
        })
    }

    /// Whether two of these members, or one of them and the cluster, are not of one cluster.
    fn is_mixed(&self, names: &[&MemberName]) -> bool {
        let mut ids: Vec<_> = self.cluster().into_iter().collect();
        for name in names {
            let site = self.places.get(*name).and_then(|place| self.speaker(name, place));
            let reply = site.and_then(|site| self.fresh_reply(name, site, self.options().max_probe_age));
            ids.extend(reply.map(|(_, reply)| reply.system_id));
        }
        ids.dedup();
        ids.len() > 1
    }

    /// The servers of this cluster that freshly say they are primaries.
    fn claims(&self) -> Vec<ServerId> {
        let ours = self.cluster();
        let mut servers: Vec<ServerId> = self
            .fresh_replies(self.options().max_probe_age)
            .iter()
            .filter(|(_, reply)| is_primary(*reply) && ours.is_none_or(|ours| ours == reply.system_id))
            .map(|(_, reply)| reply.server())
            .collect();
        servers.sort();
        servers.dedup();
        servers
    }

    /// A member's reply and until when it counts: asked for since the leader key changed last.
    fn vote<'n>(&self, name: &'n MemberName) -> Option<(&'n MemberName, Site, ProbeReply, Moment)> {
        let site = self.speaker(name, self.places.get(name)?)?;
        let (sent, reply) = self.reply(name, site)?;
        let options = self.options();
        let limit = if is_primary(reply) { options.max_probe_age } else { options.max_member_probe_age };
        let since = self.key_changed().max(self.stepped());
        let counts = self.now < sent + limit && since.is_none_or(|since| sent >= since);
        counts.then_some((name, site, reply, sent + limit))
    }

    /// Where a member's word comes from: its published address; but for the standing leader the socket in use, until a
    /// primary at the published address has to take its place.
    fn speaker(&self, name: &MemberName, place: &Place) -> Option<Site> {
        let standing = self.standing().filter(|leader| leader.member() == name);
        let former =
            place.former.filter(|site| standing.is_some_and(|leader| leader.socket() == site.socket));
        let (Some(standing), Some(former)) = (standing, former) else { return place.published };
        let asked_since =
            |site: &Site| self.reply(name, *site).is_some_and(|(sent, _)| Some(sent) >= self.key_changed());
        let there = place.published.filter(asked_since).and_then(|site| self.primary_at(name, site));
        let here = self.primary_at(name, former);
        match there {
            None => Some(former),
            Some(server) if server != standing.server() && here == Some(standing.server()) => Some(former),
            Some(_) => place.published,
        }
    }

    /// The server at a site, if it freshly says that it is a primary of this cluster.
    fn primary_at(&self, name: &MemberName, site: Site) -> Option<ServerId> {
        let (_, reply) = self.fresh_reply(name, site, self.options().max_probe_age)?;
        let ours = self.cluster().is_none_or(|ours| ours == reply.system_id);
        (is_primary(reply) && ours).then(|| reply.server())
    }

    /// Whether new sessions go to a site; a lease outlives a reply, so with one the reply has to be looked at.
    fn takes_sessions(&self, name: &MemberName, site: Site, by_lease: bool) -> bool {
        let answers = self.fresh_reply(name, site, self.options().max_probe_age).is_some() || !by_lease;
        let published = self.places.get(name).and_then(|place| place.published);
        let here = self.reply(name, site).map(|(_, reply)| reply.server());
        let other = published.and_then(|site| self.primary_at(name, site));
        answers && (other.is_none() || other == here) && !self.keeps_users_out(name, site)
    }

    fn is_standing(&self, server: ServerId, timeline: Timeline) -> bool {
        self.standing().is_some_and(|leader| leader.server() == server && leader.timeline() == timeline)
    }

    fn is_same_leadership(&self, server: ServerId, timeline: Timeline) -> bool {
        let same_key = self.standing().is_some_and(|leader| leader.key() == self.key().map(|(key, _)| key));
        self.is_standing(server, timeline) && (same_key || self.config().paused || !self.asks_the_dcs())
    }

    /// Members that were put on the list, or moved, a moment ago and have not answered there yet. When a lease has run out
    /// they are waited for all the same.
    fn joining(&self) -> Vec<(MemberName, Moment)> {
        let by_lease = |leader: &Leader| leader.basis() == Basis::Lease && self.asks_the_dcs();
        if self.standing().is_none_or(by_lease) {
            return Vec::new();
        }
        let limit = self.options().max_member_probe_age;
        let silent =
            |name: &MemberName, site: Option<Site>| site.is_none_or(|site| !self.has_replied(name, site));
        let joins = self.places.iter().filter(|(name, place)| {
            self.now < place.published_since + limit
                && silent(name, place.published)
                && silent(name, self.speaker(name, place))
        });
        joins.map(|(name, place)| (name.clone(), place.published_since + limit)).collect()
    }

    /// What has just changed keeps the rules from confirming the standing leader, and nothing speaks against it.
    fn goes_on_for_a_while(&self, missing: Missing) -> Option<Verdict> {
        let standing = self.standing()?;
        let key = self.key().map(|(key, _)| key);
        let paused = self.config().paused;
        let same_holder = key.is_none_or(|key| key.holder == *standing.member());
        let key_stands = !self.asks_the_dcs() || same_holder && (standing.key() == key || paused);
        if !key_stands || self.speaks_against(standing.member(), standing.server(), standing.timeline()) {
            return None;
        }
        let verdict = |until| Verdict {
            member: standing.member().clone(),
            server: standing.server(),
            timeline: standing.timeline(),
            basis: standing.basis(),
            until,
            open: false,
            continues: true,
        };
        if let Some(stepped) = self.stepped().filter(|at| self.now < *at + self.options().max_suspension) {
            return Some(verdict(stepped));
        }
        let limit: Duration = self.options().max_member_probe_age;
        let key_changed = self.key_changed().map(|changed| changed + limit);
        let key_changed = key_changed.filter(|until| paused && self.now < *until && missing != Missing::Dcs);
        let list_changed = self.joining().into_iter().map(|(_, until)| until).max();
        let list_changed = list_changed.filter(|_| missing == Missing::Members);
        key_changed.max(list_changed).map(verdict)
    }

    /// Whether the server in use was found down, or is no such primary any more.
    fn speaks_against(&self, name: &MemberName, server: ServerId, timeline: Timeline) -> bool {
        let socket = self.standing().map(|leader| leader.socket());
        let place = self.places.get(name);
        let site = place.and_then(|place| place.sites().find(|site| Some(site.socket) == socket));
        let Some(site) = site else { return false };
        let other = self.reply(name, site).is_some_and(|(_, reply)| {
            let ours = self.cluster().is_none_or(|ours| ours == reply.system_id);
            !ours || reply.server() != server || !is_primary(reply) || reply.timeline() != Some(timeline)
        });
        other || self.is_down(name, site)
    }
}
