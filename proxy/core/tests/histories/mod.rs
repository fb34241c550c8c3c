//! Random histories: a small cluster that mostly tells the truth, has faults, and sometimes says what makes no sense.

#![allow(dead_code, reason = "each test crate uses a part of the histories")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use pg_leader_proxy_core::{
    ClusterConfig, ConfigProblem, LeaderKey, Lsn, Member, MemberName, Moment, Observation, OnDcsLoss, Policy,
    PolicyOptions, ProbeConnection, ProbeFailure, ProbeReply, ReadFallback, Revision, Role, ServerAddr,
    Sources, Stamped, StartTime, SystemId, Timeline,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::script::{
    DEFAULT_CLUSTER, DEFAULT_LSN, Input, Step, at_ms, default_addr, default_socket, default_start,
};

/// Whether a history obeys a law, and if not, how it breaks it.
pub(crate) type Outcome = Result<(), String>;

/// Histories of up to some sixty steps and two minutes.
pub(crate) fn histories() -> impl Strategy<Value = Vec<Step>> {
    (any::<u16>(), vec((0..100_u8, any::<u8>(), any::<u8>(), any::<u8>()), 0..36))
        .prop_map(|(start, moves)| history(start, moves))
}

/// The history of these moves: what happens, to which member, how, and how long after the move before.
pub(crate) fn history(start: u16, moves: impl IntoIterator<Item = (u8, u8, u8, u8)>) -> Vec<Step> {
    let mut world = World::new(start);
    for (kind, who, detail, downtime) in moves {
        world.pass(downtime);
        world.happen(kind, usize::from(who) % 3, detail);
    }
    world.steps
}

/// The name of one of three members.
pub(crate) fn name(member: usize) -> MemberName {
    MemberName::new(["a", "b", "c"][member])
}

/// A policy whose numbers are drawn from `choice`.
fn policy(choice: u16) -> Policy {
    let pick = |bit: u16| choice >> bit & 1 == 1;
    let options = PolicyOptions {
        sources: if choice.is_multiple_of(5) { Sources::ServersOnly } else { Sources::DcsAndServers },
        lease_margin: Duration::from_secs(if pick(3) { 2 } else { 1 }),
        max_probe_age: Duration::from_secs(if pick(4) { 5 } else { 3 }),
        max_member_probe_age: Duration::from_secs(if pick(5) { 2 } else { 6 }),
        max_suspension: Duration::from_secs(if pick(2) { 4 } else { 1 }),
        on_dcs_loss: match (pick(6), pick(7)) {
            (true, _) => OnDcsLoss::AllMembers,
            (false, true) => OnDcsLoss::Auto,
            (false, false) => OnDcsLoss::Fence,
        },
        max_lag_bytes: pick(8).then_some(256),
        read_fallback: if pick(9) { ReadFallback::Leader } else { ReadFallback::Hold },
        ..PolicyOptions::default()
    };
    Policy::new(options).unwrap()
}

/// A server as it really is.
#[derive(Clone, Copy, Debug)]
struct Server {
    up: bool,
    primary: bool,
    timeline: u32,
    started: i64,
    port: u16,
    listed: bool,
    /// Where its name leads, if not to itself.
    name_leads_to: Option<SocketAddr>,
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
        let server = |who: usize| Server {
            up: true,
            primary: who == 0,
            timeline: 1,
            started: default_start(&name(who)).0,
            port: 5432,
            listed: true,
            name_leads_to: None,
        };
        let mut world = Self {
            now: 1000,
            servers: [server(0), server(1), server(2)],
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
            world.honest_round();
        }
        world
    }

    fn pass(&mut self, downtime: u8) {
        const GAPS: [u64; 16] =
            [0, 0, 10, 50, 100, 100, 300, 500, 500, 700, 900, 1000, 1500, 2000, 4000, 9000];
        self.now += GAPS[usize::from(downtime) % 16];
    }

    fn happen(&mut self, kind: u8, who: usize, detail: u8) {
        match kind {
            0..32 => self.honest_round(),
            32..42 => self.lease(u64::from(detail % 32) * 1000, u64::from(detail / 32) * 200),
            42..48 => self.elect(who, detail),
            48..52 => self.vacate(),
            52..57 => self.observe(Observation::DcsSilent { since: at_ms(self.now) }),
            57..61 => self.crash(who, detail),
            61..66 => self.start(who),
            66..73 => self.odd_reply(who, detail),
            73..79 => self.failure(who, detail),
            79..83 => self.configure(detail),
            83..87 => self.move_members(who, detail),
            87..89 => self.observe(Observation::Switchover { announced: detail.is_multiple_of(2) }),
            89..91 => self.rename_cluster(detail),
            91..93 => self.step(Input::Policy(policy(u16::from(detail) * 7))),
            93..95 => self.repeat_key(),
            95..97 => self.move_name(who, detail),
            97..99 => self.step_clock(detail),
            _ => self.step(Input::Tick),
        }
    }

    /// Every server that is up says what it is, at its own socket and where its name leads; the others refuse or do not
    /// answer.
    fn honest_round(&mut self) {
        for who in 0..3 {
            self.honest_reply(who, self.socket(who));
            if let Some(there) = self.servers[who].name_leads_to {
                self.honest_reply(who, there);
            }
        }
    }

    fn honest_reply(&mut self, who: usize, socket: SocketAddr) {
        let there = (0..3).find(|who| self.socket(*who) == socket).map(|there| self.servers[there]);
        let outcome = match there {
            Some(server) if server.up => Ok(reply_of(server)),
            Some(_) => Err(ProbeFailure::TimedOut),
            None => Err(ProbeFailure::Refused),
        };
        self.probe(who, 0, Path { socket, connection: kept() }, outcome);
    }

    /// The key is read together with its lease, asked for `late` ago.
    fn lease(&mut self, remaining: u64, late: u64) {
        let lease = Stamped { sent: self.ago(late), fact: Duration::from_millis(remaining) };
        self.key_observation(Some(lease));
    }

    /// Another member, or the same again, takes the key; it is promoted already, is still in recovery, or both are up.
    fn elect(&mut self, who: usize, detail: u8) {
        self.revision += 10;
        self.key = Some((who, self.revision));
        let highest = self.servers.iter().map(|server| server.timeline).max().unwrap_or(1);
        if !detail.is_multiple_of(4) {
            for server in self.servers.iter_mut().filter(|_| detail % 4 != 1) {
                *server = Server { primary: false, timeline: highest, ..*server };
            }
            self.servers[who] =
                Server { up: true, primary: true, timeline: highest + 1, ..self.servers[who] };
        }
        if detail % 8 < 4 { self.key_observation(None) } else { self.lease(20_000, 0) }
    }

    fn vacate(&mut self) {
        self.key = None;
        self.key_observation(None);
    }

    fn repeat_key(&mut self) {
        self.key_observation(None);
    }

    fn crash(&mut self, who: usize, detail: u8) {
        self.servers[who].up = false;
        if detail.is_multiple_of(2) {
            let connection = if detail.is_multiple_of(4) { kept() } else { ProbeConnection::New };
            self.probe(who, 0, Path { socket: self.socket(who), connection }, Err(ProbeFailure::Refused));
        }
    }

    /// A server that was down comes back as another process.
    fn start(&mut self, who: usize) {
        let server = &mut self.servers[who];
        server.started += i64::from(!server.up) * 100;
        server.up = true;
    }

    /// A reply that need not be true, of a question asked up to three seconds ago.
    fn odd_reply(&mut self, who: usize, detail: u8) {
        let timeline = u32::from(detail % 4);
        let role = match detail / 4 % 4 {
            0 | 1 => primary(timeline),
            2 => replica(Some(timeline)),
            _ => replica(None),
        };
        let system_id = if detail % 32 == 31 { SystemId(8) } else { DEFAULT_CLUSTER };
        let started = StartTime(self.servers[who].started + 10 * i64::from(detail % 16 == 15));
        let late = u64::from(detail / 64) * 1000;
        let connection = match detail % 3 {
            0 => ProbeConnection::New,
            1 => ProbeConnection::Persistent { since: self.ago(late) },
            _ => kept(),
        };
        let path = Path { socket: self.socket(who), connection };
        self.probe(who, late, path, Ok(ProbeReply { system_id, started, role }));
    }

    fn failure(&mut self, who: usize, detail: u8) {
        let failure = ProbeFailure::ALL[usize::from(detail) % 9];
        let connection = if (detail / 8).is_multiple_of(2) { ProbeConnection::New } else { kept() };
        let path = Path { socket: self.socket(who), connection };
        self.probe(who, u64::from(detail / 64) * 700, path, Err(failure));
    }

    fn configure(&mut self, detail: u8) {
        match detail % 16 {
            0 => return self.observe(Observation::ConfigLost(ConfigProblem::Unreadable)),
            1 | 2 => {
                let names = (0..3).filter(|who| detail >> 4 >> who & 1 == 1 || *who == 0).map(name);
                return self.observe(Observation::Failsafe(names.collect()));
            }
            _ => {}
        }
        self.config = ClusterConfig {
            paused: detail.is_multiple_of(2),
            standby_cluster: detail % 8 == 7,
            failsafe_mode: detail % 4 == 1,
            ttl: Duration::from_secs(if detail.is_multiple_of(3) { 4 } else { 30 }),
        };
        self.observe(Observation::Config(self.config));
    }

    fn move_members(&mut self, who: usize, detail: u8) {
        let server = &mut self.servers[who];
        match detail % 4 {
            0 => {
                server.port += 1;
                server.name_leads_to = None;
            }
            1 => server.listed = false,
            _ => server.listed = true,
        }
        self.list_members();
    }

    fn list_members(&mut self) {
        let members = (0..3).filter(|who| self.servers[*who].listed).map(|who| {
            let tagged = who == 2 && self.now.is_multiple_of(1000);
            (name(who), Member { addr: self.addr(who), no_load_balance: tagged })
        });
        let members: BTreeMap<MemberName, Member> = members.collect();
        self.observe(Observation::Members(members));
    }

    /// The name server is changed: the name of a member leads to another server, to nobody, or back.
    fn move_name(&mut self, who: usize, detail: u8) {
        let own = self.socket(who);
        let socket = match detail % 4 {
            0 => own,
            1 => SocketAddr::new([10, 0, 0, 99].into(), 5432),
            _ => self.socket((who + 1) % 3),
        };
        self.servers[who].name_leads_to = (socket != own).then_some(socket);
        self.observe(Observation::Address { member: name(who), addr: self.addr(who), socket });
    }

    fn step_clock(&mut self, detail: u8) {
        self.observe(Observation::ClockStepped { at: self.ago(u64::from(detail % 3) * 100) });
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

    fn probe(&mut self, who: usize, late: u64, path: Path, outcome: Result<ProbeReply, ProbeFailure>) {
        let (member, addr, sent) = (name(who), self.addr(who), self.ago(late));
        let Path { socket, connection } = path;
        self.observe(Observation::Probe { member, addr, socket: Some(socket), sent, connection, outcome });
    }

    fn addr(&self, who: usize) -> ServerAddr {
        ServerAddr::new(default_addr(&name(who)).host(), self.servers[who].port)
    }

    fn socket(&self, who: usize) -> SocketAddr {
        default_socket(&self.addr(who))
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

/// The way of a question.
#[derive(Clone, Copy, Debug)]
struct Path {
    socket: SocketAddr,
    connection: ProbeConnection,
}

/// A connection that has been kept for ever.
const fn kept() -> ProbeConnection {
    ProbeConnection::Persistent { since: at_ms(0) }
}

fn reply_of(server: Server) -> ProbeReply {
    let role = if server.primary { primary(server.timeline) } else { replica(Some(server.timeline)) };
    ProbeReply { system_id: DEFAULT_CLUSTER, started: StartTime(server.started), role }
}

/// Not in recovery.
pub(crate) const fn primary(timeline: u32) -> Role {
    Role::Primary { timeline: Timeline(timeline), written: DEFAULT_LSN }
}

/// In recovery; one that does not know its timeline is also far behind.
pub(crate) fn replica(timeline: Option<u32>) -> Role {
    let replayed = if timeline.is_some() { DEFAULT_LSN } else { Lsn(0) };
    Role::Replica {
        timeline: timeline.map(Timeline),
        received: Some(DEFAULT_LSN),
        replayed: Some(replayed),
        streaming: true,
    }
}

/// What a healthy cluster tells, from a moment on: who it is, who leads it, and every server's own reply.
pub(crate) fn healthy(at: Moment, leader: usize) -> Vec<Step> {
    let addr = |who| ServerAddr::new(default_addr(&name(who)).host(), 6000);
    let listed = |who| (name(who), Member { addr: addr(who), no_load_balance: false });
    let key = LeaderKey { holder: name(leader), create_revision: Revision(1_000_000) };
    let lease = Stamped { sent: at, fact: Duration::from_secs(30) };
    let mut told = vec![
        Observation::Members((0..3).map(listed).collect()),
        Observation::Initialize(Some(DEFAULT_CLUSTER)),
        Observation::Config(ClusterConfig::default()),
        Observation::Switchover { announced: false },
        Observation::LeaderKey { key: Some(key), lease: Some(lease), seen: at },
    ];
    told.extend((0..3).map(|who| Observation::Probe {
        member: name(who),
        addr: addr(who),
        socket: Some(default_socket(&addr(who))),
        sent: at,
        connection: ProbeConnection::New,
        outcome: Ok(ProbeReply {
            system_id: DEFAULT_CLUSTER,
            started: StartTime(1_000_000 + default_start(&name(who)).0),
            role: if who == leader { primary(5) } else { replica(Some(5)) },
        }),
    }));
    told.into_iter().map(|observation| Step { at, input: Input::Observe(observation) }).collect()
}
