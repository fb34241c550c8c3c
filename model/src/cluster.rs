//! The cluster as it really is: etcd with the leader key and its leases, and each member's Patroni and PostgreSQL.

use pg_leader_proxy_core::Moment;

use crate::setup::{MEMBERS, Setup, TTL};

/// The leader key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) holder: usize,
    pub(crate) create_revision: u64,
}

/// etcd, as far as anybody here uses it. One lease for each Patroni: its member record and the leader key hang on it.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Etcd {
    pub(crate) up: bool,
    pub(crate) key: Option<Key>,
    /// The `create_revision` of the newest leader key. (That other writes raise etcd's revision as well matters to nobody.)
    pub(crate) newest_key: u64,
    /// When the lease of each Patroni ends; `None` for one that has none.
    pub(crate) leases: [Option<Moment>; MEMBERS],
    /// Maintenance mode, from the key `config`.
    pub(crate) paused: bool,
    /// The leader keys that were put and deleted in this round, for those who watch.
    pub(crate) events: Vec<Option<Key>>,
}

impl Etcd {
    pub(crate) fn set_key(&mut self, key: Option<Key>) {
        self.key = key;
        self.events.push(key);
    }

    /// A member renews its lease, or is granted one.
    pub(crate) fn renew(&mut self, member: usize, now: Moment) {
        self.leases[member] = Some(now + TTL);
    }

    /// A member takes the leader key, which nobody holds.
    pub(crate) fn acquire(&mut self, member: usize) {
        self.newest_key += 1;
        self.set_key(Some(Key { holder: member, create_revision: self.newest_key }));
    }

    /// A new leader of etcd extends every lease to its full length (etcd#13294).
    pub(crate) fn elect(&mut self, now: Moment) {
        self.leases.iter_mut().flatten().for_each(|lease| *lease = now + TTL);
    }

    fn expire(&mut self, now: Moment) {
        self.events.clear();
        for member in 0..MEMBERS {
            if self.up && self.leases[member].is_some_and(|end| end <= now) {
                self.leases[member] = None;
                if self.key.is_some_and(|key| key.holder == member) {
                    self.set_key(None);
                }
            }
        }
    }
}

/// A member's PostgreSQL.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Server {
    pub(crate) up: bool,
    /// It neither answers nor writes.
    pub(crate) frozen: bool,
    pub(crate) primary: bool,
    pub(crate) timeline: u32,
    /// Names this run of the server.
    pub(crate) started: i64,
    /// The leadership (the `create_revision`) in which Patroni promoted it, or confirmed it as a primary; 0 if none.
    pub(crate) led: u64,
    /// Since when it has taken writes.
    pub(crate) writes_since: Option<Moment>,
}

impl Server {
    /// Starts again, as a replica.
    pub(crate) fn restart(&mut self) {
        *self = Self {
            up: true,
            primary: false,
            started: self.started + 100,
            led: 0,
            writes_since: None,
            ..*self
        };
    }

    pub(crate) fn promote(&mut self) {
        self.primary = true;
        self.timeline += 1;
    }

    /// Whether a write would be acknowledged.
    pub(crate) const fn takes_writes(&self) -> bool {
        self.up && !self.frozen && self.primary
    }

    pub(crate) const fn is_healthy_replica(&self) -> bool {
        self.up && !self.frozen && !self.primary
    }
}

/// How far a member's requests to etcd get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EtcdLink {
    Up,
    /// Requests arrive, and their answers are lost.
    AnswersLost,
    Down,
}

/// A member's Patroni.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Patroni {
    pub(crate) frozen: bool,
    pub(crate) link: EtcdLink,
    /// Maintenance mode, as it was last read.
    pub(crate) paused: bool,
    /// When it last renewed its lease, or last reached all members in failsafe mode.
    pub(crate) confirmed: Moment,
    /// When a leader in failsafe mode last reached it.
    pub(crate) pinged: Option<Moment>,
}

/// A member.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Member {
    pub(crate) server: Server,
    pub(crate) patroni: Patroni,
    /// No packet reaches the machine or leaves it.
    pub(crate) isolated: bool,
}

/// The newest leadership in which a server was made, or confirmed as, a primary.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Newest {
    pub(crate) led: u64,
    pub(crate) member: usize,
    pub(crate) since: Moment,
}

/// The whole cluster.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Cluster {
    pub(crate) size: usize,
    pub(crate) failsafe: bool,
    pub(crate) nofailover: bool,
    pub(crate) etcd: Etcd,
    pub(crate) members: [Member; MEMBERS],
    /// Whether two members do not reach each other: (0, 1), (0, 2), (1, 2).
    pub(crate) cut: [bool; MEMBERS],
    /// Promotions do not finish while this is so.
    pub(crate) slow_promotion: bool,
    pub(crate) newest: Newest,
}

impl Cluster {
    /// A healthy cluster, led by its first member.
    pub(crate) fn new(setup: &Setup, now: Moment) -> Self {
        let member = |index: usize| Member {
            server: Server {
                up: true,
                frozen: false,
                primary: index == 0,
                timeline: 1,
                started: i64::try_from(index).unwrap_or_default() + 1,
                led: if index == 0 { 10 } else { 0 },
                writes_since: None,
            },
            patroni: Patroni {
                frozen: false,
                link: EtcdLink::Up,
                paused: setup.paused,
                confirmed: now,
                pinged: None,
            },
            isolated: false,
        };
        let lease = |index: usize| (index < setup.members).then_some(now + TTL);
        Self {
            size: setup.members,
            failsafe: setup.failsafe,
            nofailover: setup.nofailover,
            etcd: Etcd {
                up: true,
                newest_key: 10,
                key: Some(Key { holder: 0, create_revision: 10 }),
                leases: [0, 1, 2].map(lease),
                paused: setup.paused,
                events: Vec::new(),
            },
            members: [0, 1, 2].map(member),
            cut: [false; MEMBERS],
            slow_promotion: false,
            newest: Newest { led: 10, member: 0, since: now },
        }
    }

    /// A round: leases run out, and each Patroni acts once.
    pub(crate) fn round(&mut self, now: Moment) {
        self.etcd.expire(now);
        (0..self.size).for_each(|member| self.patroni_acts(member, now));
        self.note(now);
    }

    /// Records who is a primary now.
    pub(crate) fn note(&mut self, now: Moment) {
        for (index, member) in self.members[..self.size].iter_mut().enumerate() {
            let server = &mut member.server;
            server.writes_since = server.takes_writes().then(|| server.writes_since.unwrap_or(now));
            if server.primary && server.led > self.newest.led {
                self.newest = Newest { led: server.led, member: index, since: now };
            }
        }
    }

    pub(crate) fn reach_each_other(&self, one: usize, other: usize) -> bool {
        let isolated = self.members[one].isolated || self.members[other].isolated;
        !isolated && !self.cut[one + other - 1]
    }

    /// What a client of etcd reads: which members have a record.
    pub(crate) fn listed(&self) -> [bool; MEMBERS] {
        self.etcd.leases.map(|lease| lease.is_some())
    }

    /// How much of the leader key's lease is left.
    pub(crate) fn remaining(&self, now: Moment) -> std::time::Duration {
        let lease = self.etcd.key.and_then(|key| self.etcd.leases[key.holder]);
        lease.map(|end| end.since(now)).unwrap_or_default()
    }

    /// All faults end, and maintenance mode with them. Nothing is undone that happened meanwhile.
    pub(crate) fn heal(&mut self, now: Moment) {
        if !self.etcd.up {
            self.etcd.up = true;
            self.etcd.elect(now);
        }
        self.etcd.paused = false;
        self.cut = [false; MEMBERS];
        self.slow_promotion = false;
        for member in &mut self.members {
            member.isolated = false;
            member.server.frozen = false;
            member.patroni.frozen = false;
            member.patroni.link = EtcdLink::Up;
        }
    }
}
