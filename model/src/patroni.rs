//! One turn of a Patroni: renew or take the leader key, promote, demote, start a server that is down.
//!
//! It is more reckless than Patroni where that makes things harder for the proxies. It takes a vacant key without asking
//! whether the old primary still runs, promotes in the same turn, and never looks at the write-ahead log.

use pg_leader_proxy_core::Moment;

use crate::cluster::{Cluster, EtcdLink};
use crate::setup::{DEMOTE_AFTER, TTL};

impl Cluster {
    /// The turn of `member`'s Patroni in this round.
    pub(crate) fn patroni_acts(&mut self, member: usize, now: Moment) {
        let Patroni { frozen, link } = self.patroni(member);
        if frozen {
            return;
        }
        if link != EtcdLink::Down {
            self.etcd.renew(member, now);
        }
        if link == EtcdLink::Up {
            self.with_etcd(member, now);
        } else {
            self.without_etcd(member, now);
        }
    }

    fn patroni(&self, member: usize) -> Patroni {
        let it = &self.members[member];
        let link = if self.etcd.up && !it.isolated { it.patroni.link } else { EtcdLink::Down };
        Patroni { frozen: it.patroni.frozen, link }
    }

    fn with_etcd(&mut self, member: usize, now: Moment) {
        let paused = self.etcd.paused;
        self.members[member].patroni.paused = paused;
        match self.etcd.key {
            Some(key) if key.holder == member => self.leads(member, key.create_revision, now),
            Some(key) => self.follows(member, key.holder),
            None if self.may_take_key(member, now) => {
                self.etcd.acquire(member);
                let newest = self.etcd.newest_key;
                self.leads(member, newest, now);
            }
            None => self.start_if_down(member),
        }
    }

    /// It holds the key: its server is to be the primary.
    fn leads(&mut self, member: usize, revision: u64, now: Moment) {
        let slow = self.slow_promotion;
        let it = &mut self.members[member];
        it.patroni.confirmed = now;
        if !it.server.up {
            it.server.restart();
            return;
        }
        if it.server.is_healthy_replica() && !slow {
            it.server.promote();
        }
        if it.server.takes_writes() {
            it.server.led = revision;
        }
    }

    /// Another one holds the key. In maintenance mode a primary runs on without it.
    fn follows(&mut self, member: usize, holder: usize) {
        let leader = self.members[holder].server;
        let it = &mut self.members[member];
        if it.server.takes_writes() && !it.patroni.paused {
            it.server.restart();
        }
        if it.server.is_healthy_replica() && leader.takes_writes() {
            // It streams, or is rewound and then streams.
            it.server.timeline = leader.timeline;
        }
        self.start_if_down(member);
    }

    /// A running primary takes a vacant key back at any time. Replicas leave it in maintenance mode, and while a leader in
    /// failsafe mode has reached them within the length of a lease.
    fn may_take_key(&self, member: usize, now: Moment) -> bool {
        let it = &self.members[member];
        let pinged = it.patroni.pinged.is_some_and(|pinged| now < pinged + TTL);
        let candidate = it.server.is_healthy_replica() && !it.patroni.paused && !pinged;
        it.server.takes_writes() || candidate && (member == 0 || !self.nofailover)
    }

    fn without_etcd(&mut self, member: usize, now: Moment) {
        self.start_if_down(member);
        let it = &self.members[member];
        if !it.server.takes_writes() || it.patroni.paused {
            return;
        }
        if self.failsafe && it.server.led > 0 && self.reaches_all(member) {
            for other in (0..self.size).filter(|other| *other != member) {
                self.members[other].patroni.pinged = Some(now);
            }
            self.members[member].patroni.confirmed = now;
        } else if now >= it.patroni.confirmed + DEMOTE_AFTER {
            self.members[member].server.restart();
        }
    }

    fn reaches_all(&self, member: usize) -> bool {
        let mut others = (0..self.size).filter(|other| *other != member);
        others.all(|other| !self.members[other].patroni.frozen && self.reach_each_other(member, other))
    }

    fn start_if_down(&mut self, member: usize) {
        let server = &mut self.members[member].server;
        if !server.up {
            server.restart();
        }
    }
}

/// What a Patroni can do in this round.
struct Patroni {
    frozen: bool,
    link: EtcdLink,
}
