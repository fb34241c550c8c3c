//! What a proxy was told, kept apart from the router: the laws are judged by this and not by what the router makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pg_leader_proxy_core::{
    ClusterConfig, LeaderKey, Member, MemberName, Moment, Observation, Revision, ServerId, Stamped, Timeline,
};

use crate::cluster::{Cluster, Key};
use crate::proxy::{Proxy, due};
use crate::script::{DEFAULT_CLUSTER, default_addr};
use crate::setup::{MAX_DELAY_ROUNDS, MEMBERS, TTL};

/// One linearizable read of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    /// When it was asked for, on the proxy's clock.
    sent: Moment,
    content: Content,
    /// What is left of the lease of the leader key.
    remaining: Duration,
}

/// What etcd says, as far as routing needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    pub(crate) key: Option<Key>,
    pub(crate) listed: [bool; MEMBERS],
    pub(crate) paused: bool,
    pub(crate) failsafe: bool,
}

/// What a server's answer amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    /// Which run of which server it is, whether it is a primary, and on which timeline.
    Role { server: ServerId, role: (bool, Option<Timeline>) },
    /// Nothing listens there.
    Down,
}

/// What a proxy was told, all on its own clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Told {
    /// The newest news of etcd.
    pub(crate) content: Option<Content>,
    /// Everybody who was ever listed.
    pub(crate) known: [bool; MEMBERS],
    /// When the leader key was last heard to be taken or to be gone, and the end of its lease, once confirmed.
    pub(crate) key_changed: Option<Moment>,
    pub(crate) lease_end: Option<Moment>,
    /// The newest answer of each server, by when it was asked for.
    pub(crate) answers: [Option<(Moment, Said)>; MEMBERS],
    /// When the wall clock was stepped.
    pub(crate) stepped: Option<Moment>,
    /// For how many rounds etcd has given no answer; it is watched while that is 0.
    failing: u8,
    watching: bool,
}

impl Told {
    pub(crate) fn name(member: usize) -> MemberName {
        MemberName::new(["a", "b", "c"][member])
    }

    pub(crate) fn index(member: &MemberName) -> usize {
        (0..MEMBERS).find(|index| Self::name(*index) == *member).unwrap_or_default()
    }

    /// The leader key, if etcd has told anything.
    pub(crate) fn key(&self) -> Option<Option<Key>> {
        self.content.map(|content| content.key)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.content.is_some_and(|content| content.paused)
    }

    /// Whether the lease of the leader key was confirmed, and is inside the margin.
    pub(crate) fn lease_holds(&self, now: Moment, margin: Duration) -> bool {
        self.lease_end.is_some_and(|end| now < end - margin)
    }

    pub(crate) fn hear(&mut self, member: usize, sent: Moment, said: Said) {
        if self.answers[member].is_none_or(|(newest, _)| newest <= sent) {
            self.answers[member] = Some((sent, said));
        }
    }

    fn take_key(&mut self, key: Option<Key>, now: Moment) {
        if self.key() != Some(key) {
            self.lease_end = None;
            self.key_changed = Some(now);
        }
        self.content.iter_mut().for_each(|content| content.key = key);
    }

    fn take_listed(&mut self, listed: [bool; MEMBERS]) {
        (0..MEMBERS).for_each(|member| self.known[member] |= listed[member]);
    }

    fn take_lease(&mut self, lease: Stamped<Duration>) {
        self.lease_end = Some(lease.sent + lease.fact);
    }
}

impl Proxy {
    /// A round with etcd: a late answer, the events of the watch, and a read unless one is pending; or nothing, which is
    /// noticed after a while.
    pub(crate) fn ask_etcd(&mut self, cluster: &Cluster, now: Moment) {
        if let Some(late) = due(&mut self.late_read) {
            self.take_late(&late, cluster);
        }
        if !self.reaches_etcd || !cluster.etcd.up {
            self.told.watching = false;
            self.told.failing = (self.told.failing + 1).min(MAX_DELAY_ROUNDS + 1);
            if self.told.failing == MAX_DELAY_ROUNDS {
                self.observe(Observation::DcsSilent { since: self.now });
            }
            return;
        }
        self.told.failing = 0;
        if std::mem::replace(&mut self.told.watching, true) {
            for key in cluster.etcd.events.clone() {
                self.tell_key(key, None);
            }
        } else {
            // Another connection: what was asked over the former one is not waited for.
            self.late_read = None;
        }
        if self.late_read.is_none() {
            self.take(&self.read(cluster, now), cluster);
        }
    }

    /// What etcd answers to a read that is sent now.
    pub(crate) fn read(&self, cluster: &Cluster, now: Moment) -> Reading {
        let content = Content {
            key: cluster.etcd.key,
            listed: cluster.listed(),
            paused: cluster.etcd.paused,
            failsafe: cluster.failsafe,
        };
        Reading { sent: self.now, content, remaining: cluster.remaining(now).min(TTL) }
    }

    /// An answer that newer ones have overtaken still confirms the lease of the leadership that it shows.
    fn take_late(&mut self, late: &Reading, cluster: &Cluster) {
        if self.told.content == Some(late.content) {
            self.take(late, cluster);
        } else if late.content.key.is_some() && self.told.key() == Some(late.content.key) {
            self.tell_key(late.content.key, Some(late.lease()));
        }
    }

    /// Tells what has changed, one thing after the other; the key comes last.
    fn take(&mut self, reading: &Reading, cluster: &Cluster) {
        let known = self.told.content;
        let content = reading.content;
        let told = self.told.content.get_or_insert(Content { key: None, ..content });
        told.listed = content.listed;
        self.told.take_listed(content.listed);
        if known.is_none_or(|known| known.listed != content.listed) {
            self.observe(Observation::Members(listed(&content)));
        }
        self.told.content.iter_mut().for_each(|told| told.paused = content.paused);
        if known.is_none_or(|known| known.paused != content.paused) {
            self.observe(Observation::Config(config(&content)));
        }
        if known.is_none() {
            let named = (0..cluster.size).filter(|_| content.failsafe).map(Told::name);
            self.observe(Observation::Failsafe(named.collect::<BTreeSet<MemberName>>()));
            self.observe(Observation::Initialize(Some(DEFAULT_CLUSTER)));
        }
        self.tell_key(content.key, content.key.map(|_| reading.lease()));
    }

    fn tell_key(&mut self, key: Option<Key>, lease: Option<Stamped<Duration>>) {
        self.told.take_key(key, self.now);
        lease.into_iter().for_each(|lease| self.told.take_lease(lease));
        let key = key.map(|key| LeaderKey {
            holder: Told::name(key.holder),
            create_revision: Revision(key.create_revision),
        });
        self.observe(Observation::LeaderKey { key, lease, seen: self.now });
    }

    /// The list of members that an operator wrote, for a proxy that does not ask etcd.
    pub(crate) fn list_members(&mut self, cluster: &Cluster) {
        if self.told.content.is_none() {
            let listed_all = [0, 1, 2].map(|member| member < cluster.size);
            let content = Content { key: None, listed: listed_all, paused: false, failsafe: false };
            self.told.content = Some(content);
            self.told.take_listed(listed_all);
            self.observe(Observation::Members(listed(&content)));
        }
    }
}

impl Reading {
    fn lease(&self) -> Stamped<Duration> {
        Stamped { sent: self.sent, fact: self.remaining }
    }
}

fn config(content: &Content) -> ClusterConfig {
    ClusterConfig {
        paused: content.paused,
        failsafe_mode: content.failsafe,
        ttl: TTL,
        ..ClusterConfig::default()
    }
}

fn listed(content: &Content) -> BTreeMap<MemberName, Member> {
    let names = (0..MEMBERS).filter(|member| content.listed[*member]).map(Told::name);
    names.map(|name| (name.clone(), Member { addr: default_addr(&name), no_load_balance: false })).collect()
}
