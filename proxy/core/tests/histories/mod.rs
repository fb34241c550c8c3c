//! Random histories of a small cluster that mostly reports the truth, has faults, and sometimes reports nonsense.

#![allow(dead_code, reason = "each test crate uses a part of the histories")]

pub(crate) mod check_law;

use std::collections::BTreeMap;
use std::time::Duration;

use pg_leader_proxy_core::{
    ClusterConfig, LeaderKey, Lsn, Member, MemberName, Moment, Observation, OnDcsLoss, Policy, PolicyOptions,
    ProbeConnection, ProbeFailure, ProbeReply, ReadFallback, Revision, Role, ServerAddr, Sources, Stamped,
    SystemId, Timeline,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::script::{DEFAULT_CLUSTER, DEFAULT_LSN, Input, Step, at_ms, default_addr};

/// Histories of up to about sixty steps and two minutes.
pub(crate) fn histories() -> impl Strategy<Value = Vec<Step>> {
    (any::<u16>(), vec((0..100_u8, any::<u8>(), any::<u8>(), any::<u8>()), 0..36)).prop_map(
        |(start, moves)| {
            let mut world = World::new(start);
            for (kind, index, detail, gap) in moves {
                world.pass(gap);
                world.happen(kind, usize::from(index) % 3, detail);
            }
            world.steps
        },
    )
}

/// The name of one of three members.
pub(crate) fn name(member: usize) -> MemberName {
    MemberName::new(["a", "b", "c"][member])
}

/// A policy whose options depend on the bits of `choice`.
fn policy(choice: u16) -> Policy {
    let pick = |bit: u16| choice >> bit & 1 == 1;
    let options = PolicyOptions {
        sources: if choice.is_multiple_of(5) { Sources::ServersOnly } else { Sources::DcsAndServers },
        lease_margin: Duration::from_secs(if pick(3) { 2 } else { 1 }),
        max_probe_age: Duration::from_secs(if pick(4) { 5 } else { 3 }),
        max_member_probe_age: Duration::from_secs(if pick(5) { 2 } else { 6 }),
        on_dcs_loss: if pick(6) || pick(7) { OnDcsLoss::AllMembers } else { OnDcsLoss::Fence },
        max_lag_bytes: pick(8).then_some(256),
        read_fallback: if pick(9) { ReadFallback::Leader } else { ReadFallback::Hold },
        ..PolicyOptions::default()
    };
    Policy::new(options).unwrap()
}

/// The true state of a server.
#[derive(Clone, Copy, Debug)]
struct Server {
    up: bool,
    primary: bool,
    timeline: u32,
    port: u16,
    listed: bool,
}

struct World {
    now: u64,
    servers: [Server; 3],
    key: Option<(usize, u64)>,
    revision: u64,
    config: ClusterConfig,
    steps: Vec<Step>,
}

impl World {
    fn new(start: u16) -> Self {
        let server = Server { up: true, primary: false, timeline: 1, port: 5432, listed: true };
        let mut world = Self {
            now: 1000,
            servers: [Server { primary: true, ..server }, server, server],
            key: None,
            revision: 10,
            config: ClusterConfig::default(),
            steps: Vec::new(),
        };
        world.step(Input::Policy(policy(start)));
        if !start.is_multiple_of(16) {
            world.list_members();
            world.observe(Observation::Initialize(Some(DEFAULT_CLUSTER)));
            world.key = Some((0, 10));
            world.lease(20_000, 0);
            world.probe_all();
        }
        world
    }

    fn pass(&mut self, gap: u8) {
        const GAPS: [u64; 16] =
            [0, 0, 10, 50, 100, 100, 300, 500, 500, 700, 900, 1000, 1500, 2000, 4000, 9000];
        self.now += GAPS[usize::from(gap) % 16];
    }

    fn happen(&mut self, kind: u8, index: usize, detail: u8) {
        match kind {
            0..36 => self.probe_all(),
            36..46 => self.lease(u64::from(detail % 32) * 1000, u64::from(detail / 32) * 200),
            46..52 => self.elect(index, detail),
            52..56 => self.delete_key(),
            56..62 => self.observe(Observation::DcsSilent { since: at_ms(self.now) }),
            62..66 => self.crash(index, detail),
            66..71 => self.servers[index].up = true,
            71..80 => self.odd_reply(index, detail),
            80..85 => self.failure(index, detail),
            85..88 => self.configure(detail),
            88..91 => self.move_members(index, detail),
            91..93 => self.observe(Observation::Switchover { announced: detail.is_multiple_of(2) }),
            93..95 => self.rename_cluster(detail),
            95..97 => self.step(Input::Policy(policy(u16::from(detail) * 7))),
            97..99 => self.repeat_key(),
            _ => self.step(Input::Tick),
        }
    }

    /// Every server that is up reports its true state; the others time out.
    fn probe_all(&mut self) {
        for index in 0..3 {
            let server = self.servers[index];
            let outcome = match (server.up, server.primary) {
                (true, true) => Ok(primary(server.timeline)),
                (true, false) => Ok(replica(Some(server.timeline))),
                (false, _) => Err(ProbeFailure::TimedOut),
            };
            self.probe(index, 0, ProbeConnection::Persistent, outcome.map(reply));
        }
    }

    /// The key is read together with its lease; the question was sent `late` milliseconds ago.
    fn lease(&mut self, remaining: u64, late: u64) {
        let lease = Stamped { sent: self.ago(late), fact: Duration::from_millis(remaining) };
        self.key_observation(Some(lease));
    }

    /// A member takes the key. It may already be promoted or still be in recovery, and there may be two primaries.
    fn elect(&mut self, index: usize, detail: u8) {
        self.revision += 10;
        self.key = Some((index, self.revision));
        let highest = self.servers.iter().map(|server| server.timeline).max().unwrap_or(1);
        if !detail.is_multiple_of(4) {
            for server in self.servers.iter_mut().filter(|_| detail % 4 != 1) {
                *server = Server { primary: false, timeline: highest, ..*server };
            }
            self.servers[index] =
                Server { up: true, primary: true, timeline: highest + 1, ..self.servers[index] };
        }
        if detail % 8 < 4 { self.key_observation(None) } else { self.lease(20_000, 0) }
    }

    fn delete_key(&mut self) {
        self.key = None;
        self.key_observation(None);
    }

    fn repeat_key(&mut self) {
        self.key_observation(None);
    }

    fn crash(&mut self, index: usize, detail: u8) {
        self.servers[index].up = false;
        if detail.is_multiple_of(2) {
            self.probe(index, 0, ProbeConnection::New, Err(ProbeFailure::Refused));
        }
    }

    /// A reply that may be false, to a probe sent up to three seconds ago.
    fn odd_reply(&mut self, index: usize, detail: u8) {
        let timeline = u32::from(detail % 4);
        let role = match detail / 4 % 4 {
            0 | 1 => primary(timeline),
            2 => replica(Some(timeline)),
            _ => replica(None),
        };
        let system_id = if detail % 32 == 31 { SystemId(8) } else { DEFAULT_CLUSTER };
        let connection =
            if detail.is_multiple_of(3) { ProbeConnection::New } else { ProbeConnection::Persistent };
        self.probe(index, u64::from(detail / 64) * 1000, connection, Ok(ProbeReply { system_id, role }));
    }

    fn failure(&mut self, index: usize, detail: u8) {
        let failure = ProbeFailure::ALL[usize::from(detail) % 7];
        let connection =
            if detail.is_multiple_of(2) { ProbeConnection::New } else { ProbeConnection::Persistent };
        self.probe(index, u64::from(detail / 64) * 700, connection, Err(failure));
    }

    fn configure(&mut self, detail: u8) {
        self.config = ClusterConfig {
            paused: detail.is_multiple_of(2),
            standby_cluster: detail % 8 == 7,
            failsafe_mode: detail % 4 == 2,
        };
        self.observe(Observation::Config(self.config));
    }

    fn move_members(&mut self, index: usize, detail: u8) {
        let server = &mut self.servers[index];
        match detail % 4 {
            0 => server.port += 1,
            1 => server.listed = false,
            _ => server.listed = true,
        }
        self.list_members();
    }

    fn list_members(&mut self) {
        let members = (0..3).filter(|index| self.servers[*index].listed).map(|index| {
            let tagged = index == 2 && self.now.is_multiple_of(1000);
            (name(index), Member { addr: self.addr(index), no_load_balance: tagged })
        });
        let members: BTreeMap<MemberName, Member> = members.collect();
        self.observe(Observation::Members(members));
    }

    fn rename_cluster(&mut self, detail: u8) {
        let id = match detail % 4 {
            0 => None,
            1 => Some(SystemId(8)),
            _ => Some(DEFAULT_CLUSTER),
        };
        self.observe(Observation::Initialize(id));
    }

    fn key_observation(&mut self, lease: Option<Stamped<Duration>>) {
        let key = self.key.map(|(holder, revision)| LeaderKey {
            holder: name(holder),
            create_revision: Revision(revision),
        });
        let lease = lease.filter(|_| key.is_some());
        self.observe(Observation::LeaderKey { key, lease, seen: at_ms(self.now) });
    }

    fn probe(
        &mut self,
        index: usize,
        late: u64,
        connection: ProbeConnection,
        outcome: Result<ProbeReply, ProbeFailure>,
    ) {
        let (member, addr, sent) = (name(index), self.addr(index), self.ago(late));
        self.observe(Observation::Probe { member, addr, sent, connection, outcome });
    }

    fn addr(&self, index: usize) -> ServerAddr {
        ServerAddr::new(default_addr(&name(index)).host(), self.servers[index].port)
    }

    fn ago(&self, ms: u64) -> Moment {
        at_ms(self.now.saturating_sub(ms))
    }

    fn observe(&mut self, observation: Observation) {
        self.step(Input::Observe(observation));
    }

    fn step(&mut self, input: Input) {
        self.steps.push(Step { at: at_ms(self.now), input });
    }
}

/// The role of a primary.
pub(crate) const fn primary(timeline: u32) -> Role {
    Role::Primary { timeline: Timeline(timeline), written: DEFAULT_LSN }
}

/// The role of a replica. One without a timeline is also far behind.
pub(crate) fn replica(timeline: Option<u32>) -> Role {
    let replayed = if timeline.is_some() { DEFAULT_LSN } else { Lsn(0) };
    Role::Replica {
        timeline: timeline.map(Timeline),
        received: Some(DEFAULT_LSN),
        replayed: Some(replayed),
        streaming: true,
    }
}

/// A reply from a server of the default cluster.
pub(crate) const fn reply(role: Role) -> ProbeReply {
    ProbeReply { system_id: DEFAULT_CLUSTER, role }
}

/// All observations of a healthy cluster at one moment.
pub(crate) fn healthy(at: Moment, leader: usize) -> Vec<Step> {
    let listed = |index| (name(index), Member { addr: default_addr(&name(index)), no_load_balance: false });
    let key = LeaderKey { holder: name(leader), create_revision: Revision(1_000_000) };
    let lease = Stamped { sent: at, fact: Duration::from_secs(30) };
    let mut reported = vec![
        Observation::Members((0..3).map(listed).collect()),
        Observation::Initialize(Some(DEFAULT_CLUSTER)),
        Observation::Config(ClusterConfig::default()),
        Observation::Switchover { announced: false },
        Observation::LeaderKey { key: Some(key), lease: Some(lease), seen: at },
    ];
    reported.extend((0..3).map(|index| Observation::Probe {
        member: name(index),
        addr: default_addr(&name(index)),
        sent: at,
        connection: ProbeConnection::New,
        outcome: Ok(reply(if index == leader { primary(5) } else { replica(Some(5)) })),
    }));
    reported.into_iter().map(|observation| Step { at, input: Input::Observe(observation) }).collect()
}
