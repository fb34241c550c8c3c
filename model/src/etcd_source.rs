//! A proxy's source of etcd: how it hears the watch and reads, and what it then tells its router.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pg_leader_proxy_core::{
    ClusterConfig, LeaderKey, Member, MemberName, Moment, Observation, Revision, Stamped,
};

use crate::cluster::{Cluster, Key};
use crate::proxy::{Proxy, due};
use crate::script::{DEFAULT_CLUSTER, default_addr};
use crate::setup::{MAX_DELAY_ROUNDS, MEMBERS, TTL};
use crate::told::{Content, Reading, Told};

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
