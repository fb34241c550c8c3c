//! Snapshots: what the store says about the cluster, and the observations that follow from its changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use etcd_client::{Event, EventType};
use pg_leader_proxy_core::{
    ClusterConfig, ConfigProblem, LeaderKey, Member, MemberName, Moment, Observation, Revision, ServerAddr,
    Stamped, SystemId,
};
use tracing::warn;

use super::super::patroni::{self, Key, ValueError};
use super::entry::Entry;
use crate::config;

/// How much of an invalid value to log, in bytes.
const SHOWN_BYTES: usize = 80;

/// The leader key and the ID of its lease; 0 if it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldKey {
    pub(crate) key: LeaderKey,
    pub(crate) lease: i64,
}

/// What the store says about the cluster at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The revision up to which all changes are included.
    pub(crate) revision: i64,
    pub(crate) leader: Option<HeldKey>,
    members: BTreeMap<MemberName, Member>,
    config: Result<ClusterConfig, ConfigProblem>,
    failsafe: BTreeSet<MemberName>,
    announced: bool,
    initialize: Option<SystemId>,
}

/// How an event of the watch changed the snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Not in a way that matters for routing.
    Nothing,
    /// Send this observation.
    Observe(Observation),
    /// The leader key was put, by a new holder or with another lease: send it, and read the lease.
    LeaderPut(HeldKey),
    /// The leader key was deleted.
    LeaderDeleted,
}

impl Snapshot {
    fn empty(revision: i64) -> Self {
        Self {
            revision,
            leader: None,
            members: BTreeMap::new(),
            config: Err(ConfigProblem::Deleted),
            failsafe: BTreeSet::new(),
            announced: false,
            initialize: None,
        }
    }

    /// The snapshot from a read of all keys.
    pub(crate) fn of<'a>(
        values: &mut Values,
        entries: impl IntoIterator<Item: Into<Entry<'a>>>,
        revision: i64,
    ) -> Self {
        let mut snapshot = Self::empty(revision);
        for entry in entries {
            let entry = &entry.into();
            match values.key(entry.key) {
                Some(Key::Leader) => snapshot.leader = values.leader(entry),
                Some(Key::Member(name)) => {
                    if let Some(member) = values.member(entry) {
                        snapshot.members.insert(name, member);
                    }
                }
                Some(Key::Config) => snapshot.config = values.config(entry),
                Some(Key::Failover) => snapshot.announced = patroni::switchover(entry.value),
                Some(Key::Failsafe) => snapshot.failsafe = patroni::failsafe(entry.value),
                Some(Key::Initialize) => snapshot.initialize = values.initialize(entry),
                None => {}
            }
        }
        snapshot
    }

    /// Whether it has none of Patroni's keys.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::empty(self.revision)
    }

    /// Applies an event of the watch. An event that a read has already shown changes nothing.
    pub(crate) fn apply(&mut self, values: &mut Values, event: &Event) -> Change {
        event.kv().map_or(Change::Nothing, |kv| self.apply_to(values, &kv.into(), event.event_type()))
    }

    /// Applies what happened to a key.
    pub(crate) fn apply_to(&mut self, values: &mut Values, entry: &Entry<'_>, event: EventType) -> Change {
        if entry.mod_revision <= self.revision {
            return Change::Nothing;
        }
        let put = (event == EventType::Put).then_some(entry);
        match values.key(entry.key) {
            Some(Key::Leader) => self.set_leader(put.and_then(|entry| values.leader(entry))),
            Some(Key::Member(name)) => {
                let changed = match put.and_then(|entry| values.member(entry)) {
                    Some(member) => self.members.insert(name, member.clone()) != Some(member),
                    None => self.members.remove(&name).is_some(),
                };
                changed.then(|| self.observe_members()).map_or(Change::Nothing, Change::Observe)
            }
            Some(Key::Config) => {
                let config = put.map_or(Err(ConfigProblem::Deleted), |entry| values.config(entry));
                replace(&mut self.config, config, observe_config)
            }
            Some(Key::Failover) => {
                let announced = put.is_some_and(|entry| patroni::switchover(entry.value));
                replace(&mut self.announced, announced, |announced| Observation::Switchover { announced })
            }
            Some(Key::Failsafe) => {
                let failsafe = put.map(|entry| patroni::failsafe(entry.value)).unwrap_or_default();
                replace(&mut self.failsafe, failsafe, Observation::Failsafe)
            }
            Some(Key::Initialize) => {
                let initialize = put.and_then(|entry| values.initialize(entry));
                replace(&mut self.initialize, initialize, Observation::Initialize)
            }
            None => Change::Nothing,
        }
    }

    /// Records that all changes up to `revision` are included.
    pub(crate) fn advance_revision(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    fn set_leader(&mut self, leader: Option<HeldKey>) -> Change {
        if self.leader == leader {
            return Change::Nothing;
        }
        self.leader.clone_from(&leader);
        leader.map_or(Change::LeaderDeleted, Change::LeaderPut)
    }

    /// Whether `other` says the same about the cluster, even at another revision.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        Self { revision: other.revision, ..self.clone() } == *other
    }

    /// Everything except the leader key, as observations. With `known`, only what differs from it.
    pub(crate) fn observations(&self, known: Option<&Self>) -> Vec<Observation> {
        let differs = |same: fn(&Self, &Self) -> bool| known.is_none_or(|known| !same(self, known));
        let mut observations = Vec::new();
        if differs(|a, b| a.members == b.members) {
            observations.push(self.observe_members());
        }
        if differs(|a, b| a.config == b.config) {
            observations.push(observe_config(self.config));
        }
        if differs(|a, b| a.failsafe == b.failsafe) {
            observations.push(Observation::Failsafe(self.failsafe.clone()));
        }
        if differs(|a, b| a.announced == b.announced) {
            observations.push(Observation::Switchover { announced: self.announced });
        }
        if differs(|a, b| a.initialize == b.initialize) {
            observations.push(Observation::Initialize(self.initialize));
        }
        observations
    }

    /// The leader key as an observation.
    pub(crate) fn observe_leader(&self, lease: Option<Stamped<Duration>>, seen: Moment) -> Observation {
        let key = self.leader.as_ref().map(|held| held.key.clone());
        Observation::LeaderKey { lease: key.is_some().then_some(lease).flatten(), key, seen }
    }

    fn observe_members(&self) -> Observation {
        Observation::Members(self.members.clone())
    }
}

fn observe_config(config: Result<ClusterConfig, ConfigProblem>) -> Observation {
    config.map_or_else(Observation::ConfigLost, Observation::Config)
}

fn replace<T: Clone + PartialEq>(
    known: &mut T,
    new: T,
    send_change: impl FnOnce(T) -> Observation,
) -> Change {
    if *known == new {
        Change::Nothing
    } else {
        known.clone_from(&new);
        Change::Observe(send_change(new))
    }
}

/// Parses keys and values, and logs each invalid value once.
#[derive(Debug)]
pub(crate) struct Values {
    prefix: String,
    prefer_proxy_url: bool,
    address_map: BTreeMap<ServerAddr, ServerAddr>,
    reported: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Values {
    pub(crate) fn new(config: &config::Etcd) -> Self {
        Self {
            prefer_proxy_url: config.prefer_proxy_url,
            address_map: config.address_map.clone(),
            ..Self::below(&config.prefix)
        }
    }

    /// Of the keys below this prefix, with every address as it is published.
    pub(crate) fn below(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            prefer_proxy_url: false,
            address_map: BTreeMap::new(),
            reported: BTreeMap::new(),
        }
    }

    fn key(&self, key: &[u8]) -> Option<Key> {
        Key::parse(std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?)
    }

    fn leader(&mut self, entry: &Entry<'_>) -> Option<HeldKey> {
        let holder = self.parsed_or_warn(entry, patroni::leader(entry.value))?;
        let create_revision = Revision(u64::try_from(entry.create_revision).unwrap_or_default());
        Some(HeldKey { key: LeaderKey { holder, create_revision }, lease: entry.lease })
    }

    fn member(&mut self, entry: &Entry<'_>) -> Option<Member> {
        let published = self.parsed_or_warn(entry, patroni::member(entry.value))?;
        let proxy = published.proxy.filter(|_| self.prefer_proxy_url);
        let addr = proxy.unwrap_or(published.conn);
        let addr = self.address_map.get(&addr).cloned().unwrap_or(addr);
        Some(Member { addr, no_load_balance: published.no_load_balance })
    }

    fn config(&mut self, entry: &Entry<'_>) -> Result<ClusterConfig, ConfigProblem> {
        self.parsed_or_warn(entry, patroni::config(entry.value)).ok_or(ConfigProblem::Unreadable)
    }

    fn initialize(&mut self, entry: &Entry<'_>) -> Option<SystemId> {
        self.parsed_or_warn(entry, patroni::initialize(entry.value)).flatten()
    }

    /// The parsed value, or a warning in the log, unless the same bytes were already logged.
    fn parsed_or_warn<T>(&mut self, entry: &Entry<'_>, parsed: Result<T, ValueError>) -> Option<T> {
        match parsed {
            Ok(fact) => {
                self.reported.remove(entry.key);
                Some(fact)
            }
            Err(error) => {
                let before = self.reported.insert(entry.key.to_vec(), entry.value.to_vec());
                if before.as_deref() != Some(entry.value) {
                    let key = String::from_utf8_lossy(entry.key);
                    let value = shown(self.key(entry.key).as_ref(), entry.value);
                    warn!(%key, %value, error = super::chain(&error), "ignoring an invalid value in etcd");
                }
                None
            }
        }
    }
}

/// The beginning of a value, for the log. A member's record is not shown, because its URLs may hold a password.
fn shown(key: Option<&Key>, value: &[u8]) -> String {
    match key {
        Some(Key::Member(_)) => "not shown".to_owned(),
        Some(Key::Leader | Key::Config | Key::Failover | Key::Failsafe | Key::Initialize) | None => {
            value[..value.len().min(SHOWN_BYTES)].escape_ascii().to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_whose_url_may_hold_a_password_is_not_shown() {
        let member = Key::parse("members/a");
        let record = br#"{"conn_url":"postgres://u:p@ss:w/rd#1@h:5432/db"}"#;
        assert_eq!(shown(member.as_ref(), record), "not shown");
        assert_eq!(shown(Some(&Key::Initialize), b"\xffsoon"), "\\xffsoon");
        assert_eq!(shown(Some(&Key::Config), &[b'x'; 10_000]).len(), SHOWN_BYTES);
    }
}
