//! Events of etcd's watch.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};

use etcd_client::EventType;
use pg_leader_proxy_core::{ClusterConfig, LeaderKey, Moment, Observation};

use crate::sources::etcd::entry::Entry;
use crate::sources::etcd::snapshot::{Change, HeldKey, Snapshot, Values};

const PREFIX: &str = "/service/main/";
const KEYS: [&str; 10] = [
    "/service/main/leader",
    "/service/main/members/a",
    "/service/main/members/b",
    "/service/main/config",
    "/service/main/failover",
    "/service/main/failsafe",
    "/service/main/initialize",
    "/service/main/status",
    "/service/main/members/",
    "/service/mainland/leader",
];

/// Whoever follows the watch from any revision on knows what a new read would tell, and so does whoever is told of each
/// change. That also holds where the watch delivers again what the read has shown.
///
/// # Panics
/// If that is not so.
pub fn etcd_events(data: &[u8]) {
    let Some((&head, data)) = data.split_first() else { return };
    let writes = writes(data);
    // A read shows the whole of a transaction.
    let chosen = usize::from(head) % (writes.len() + 1);
    let revisions = writes.chunk_by(|one, other| one.kv.mod_revision == other.kv.mod_revision);
    let ends = revisions.scan(0, |end, writes| {
        *end += writes.len();
        Some(*end)
    });
    let read_after = ends.take_while(|end| *end <= chosen).last().unwrap_or(0);
    let mut store = BTreeMap::new();
    writes[..read_after].iter().for_each(|write| write.apply_to(&mut store));
    let mut values = Values::below(PREFIX);
    let revision = writes[..read_after].last().map_or(1, |write| write.kv.mod_revision);
    let mut followed = Snapshot::of(&mut values, store.values().copied(), revision);
    let mut told = Told::of(&followed);
    // Some of what the read has shown comes once more.
    let again = read_after - usize::from(head >> 6).min(read_after);
    for message in writes[again..].chunk_by(|one, other| one.kv.mod_revision == other.kv.mod_revision) {
        for Write { kv, event } in message {
            told.hear(followed.apply_to(&mut values, kv, *event));
        }
        followed.advance_revision(message[0].kv.mod_revision);
    }
    writes[read_after..].iter().for_each(|write| write.apply_to(&mut store));
    let read = Snapshot::of(&mut Values::below(PREFIX), store.values().copied(), followed.revision);
    assert!(followed.agrees_with(&read), "followed: {followed:?}\nread: {read:?}");
    assert_eq!(told, Told::of(&read), "who was told knows something else");
    assert_eq!(read.observations(Some(&followed)), [], "nothing is new");
}

/// Every key that there is.
type Store<'a> = BTreeMap<&'a [u8], Entry<'a>>;

/// What happened to a key.
#[derive(Clone, Copy)]
struct Write<'a> {
    kv: Entry<'a>,
    event: EventType,
}

impl<'a> Write<'a> {
    fn apply_to(self, store: &mut Store<'a>) {
        match self.event {
            EventType::Put => store.insert(self.kv.key, self.kv),
            EventType::Delete => store.remove(self.kv.key),
        };
    }
}

/// Each write is a byte for the key and what happens, one for the length of the value, and the value.
fn writes(mut data: &[u8]) -> Vec<Write<'_>> {
    let (mut writes, mut created, mut revision) = (Vec::<Write<'_>>::new(), BTreeMap::new(), 1);
    while let Some((&[what, length], rest)) = data.split_first_chunk() {
        let value;
        (value, data) = rest.split_at(usize::from(length).min(rest.len()));
        let key = KEYS[usize::from(what) % KEYS.len()];
        let event = if what < 200 { EventType::Put } else { EventType::Delete };
        // A transaction writes each key once at most.
        let again = writes.iter().rev().take_while(|write| write.kv.mod_revision == revision);
        // An empty etcd has revision 1, so the first write is of the next one.
        let begins =
            revision == 1 || what & 64 == 0 || again.into_iter().any(|write| write.kv.key == key.as_bytes());
        revision += i64::from(begins);
        let create_revision = match event {
            EventType::Put => *created.entry(key).or_insert(revision),
            EventType::Delete => {
                // etcd tells of no deletion of a key that there is not.
                if created.remove(key).is_none() {
                    continue;
                }
                0
            }
        };
        let lease = i64::from(what & 32);
        let kv = Entry {
            key: key.as_bytes(),
            value: if event == EventType::Put { value } else { &[] },
            create_revision,
            mod_revision: revision,
            lease,
        };
        writes.push(Write { kv, event });
    }
    writes
}

/// The last of each kind of observation, and the leader key.
#[derive(Debug, PartialEq)]
struct Told(Vec<Observation>, Option<LeaderKey>);

impl Told {
    fn of(snapshot: &Snapshot) -> Self {
        let Observation::LeaderKey { key, .. } = snapshot.observe_leader(None, Moment::default()) else {
            panic!("it is another observation")
        };
        Self(snapshot.observations(None), key)
    }

    fn hear(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::LeaderPut(HeldKey { key, .. }) => self.1 = Some(key),
            Change::LeaderDeleted => self.1 = None,
            Change::Observe(observation) => {
                let kind = kind(&observation);
                let known = self.0.iter_mut().find(|known| self::kind(known) == kind);
                *known.expect("the first observations are of every kind") = observation;
            }
        }
    }
}

/// A configuration and its loss are one kind.
fn kind(observation: &Observation) -> Discriminant<Observation> {
    match matches!(observation, Observation::ConfigLost(_)) {
        true => discriminant(&Observation::Config(ClusterConfig::default())),
        false => discriminant(observation),
    }
}
