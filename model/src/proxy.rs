//! One proxy: the real router, and a model of the shell around it: its connections, its clock, and what it was told.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use pg_leader_proxy_core::{
    Leader, Moment, Observation, Policy, ProbeConnection, ProbeFailure, ProbeReply, Role, RouteEpoch, Router,
    ServerId, StartTime, Timeline,
};

use crate::broken::Broken;
use crate::cluster::{Cluster, Key};
use crate::script::{DEFAULT_CLUSTER, DEFAULT_LSN, Input, Step, default_addr, default_socket};
use crate::setup::MEMBERS;
use crate::told::{Reading, Said, Told};

/// Whether the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Running {
    Yes,
    /// The process stands still; its clock does not.
    Frozen,
    /// The machine stands still with its clock, and nobody sees it from inside but by the wall clock afterwards.
    Suspended,
}

/// Whether the clock lags behind true time: once in a history, by the margin of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Clock {
    Exact,
    /// It loses one round's time in the next round.
    LosesNext,
    Lags,
}

/// An answer that is still on its way.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Late<T> {
    pub(crate) rounds_left: u8,
    pub(crate) answer: T,
}

/// A connection to a server: asked for at this moment, made to this run of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Connection {
    since: Moment,
    started: i64,
}

/// A server's answer to a probe.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Answer {
    sent: Moment,
    since: Moment,
    outcome: Result<ProbeReply, ProbeFailure>,
}

/// What the router was told, as a scenario would tell it. Not part of the state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording(pub(crate) Option<Vec<Step>>);

impl Hash for Recording {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The newest epoch of a proxy: whose it was, under which key, and whether it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Epoch {
    pub(crate) number: RouteEpoch,
    pub(crate) member: usize,
    pub(crate) server: ServerId,
    pub(crate) timeline: Timeline,
    pub(crate) key: Option<Key>,
    pub(crate) ended: bool,
}

/// A proxy. All its moments are on its own clock.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Proxy {
    pub(crate) router: Router,
    pub(crate) now: Moment,
    pub(crate) running: Running,
    pub(crate) clock: Clock,
    pub(crate) reaches_etcd: bool,
    pub(crate) reaches: [bool; MEMBERS],
    /// The next new connection to this member is refused.
    pub(crate) refuses: [bool; MEMBERS],
    pub(crate) late_read: Option<Late<Reading>>,
    pub(crate) late_answers: [Option<Late<Answer>>; MEMBERS],
    pub(crate) told: Told,
    pub(crate) epoch: Option<Epoch>,
    /// The first law that the router broke.
    pub(crate) broken: Option<Broken>,
    connections: [Option<Connection>; MEMBERS],
    pub(crate) recording: Recording,
}

impl Proxy {
    pub(crate) fn new(policy: Policy, now: Moment) -> Self {
        let mut router = Router::new(policy);
        router.advance(now);
        Self {
            router,
            now,
            running: Running::Yes,
            clock: Clock::Exact,
            reaches_etcd: true,
            reaches: [true; MEMBERS],
            refuses: [false; MEMBERS],
            late_read: None,
            late_answers: [None; MEMBERS],
            told: Told::default(),
            epoch: None,
            broken: None,
            connections: [None; MEMBERS],
            recording: Recording(Some(vec![Step { at: now, input: Input::Policy(policy) }])),
        }
    }

    /// The process is started anew; the machine, its clock and its network are the same.
    pub(crate) fn restart(&mut self) {
        let fresh = Self::new(*self.router.policy(), self.now);
        let recording = Recording(fresh.recording.0.filter(|_| self.recording.0.is_some()));
        let (clock, reaches_etcd, reaches) = (self.clock, self.reaches_etcd, self.reaches);
        *self = Self { clock, reaches_etcd, reaches, recording, ..fresh };
    }

    /// Time passes on its clock.
    pub(crate) fn pass(&mut self, time: Duration) {
        match (self.running, self.clock) {
            (Running::Suspended, _) => {}
            (_, Clock::LosesNext) => self.clock = Clock::Lags,
            (Running::Yes | Running::Frozen, Clock::Exact | Clock::Lags) => self.now = self.now + time,
        }
    }

    /// The leader whose sessions pass bytes at this moment: the relay looks at its clock before each chunk.
    pub(crate) fn passes_to(&self) -> Option<&Leader> {
        let valid = self.router.valid_until().is_some_and(|until| self.now < until);
        self.router.routing().write.leader().filter(|_| self.running == Running::Yes && valid)
    }

    pub(crate) fn observe(&mut self, observation: Observation) {
        self.record(&Input::Observe(observation.clone()));
        self.router.observe(observation, self.now);
        self.note_epoch();
    }

    /// Advances the router to each of its deadlines, as control does.
    pub(crate) fn catch_up(&mut self) {
        while let Some(deadline) = self.router.deadline().filter(|deadline| *deadline <= self.now) {
            self.router.advance(deadline);
            self.note_epoch();
        }
        self.record(&Input::Tick);
    }

    fn record(&mut self, input: &Input) {
        let at = self.now;
        self.recording.0.iter_mut().for_each(|steps| steps.push(Step { at, input: input.clone() }));
    }

    /// Asks a member, or misses its answer.
    pub(crate) fn probe(&mut self, member: usize, cluster: &Cluster) {
        let outcome = self.ask(member, cluster);
        let since = self.connect(member, outcome);
        let answer = Answer { sent: self.now, since, outcome };
        self.tell_answer(member, &answer, ProbeConnection::Persistent { since });
        if std::mem::take(&mut self.refuses[member]) {
            let refused = Answer { outcome: Err(ProbeFailure::Refused), ..answer };
            self.tell_answer(member, &refused, ProbeConnection::New);
        } else if self.is_kept_out(member) {
            self.tell_answer(member, &answer, ProbeConnection::New);
        }
    }

    /// Asks a member now, and gets the answer only in a later round.
    pub(crate) fn probe_late(&mut self, member: usize, cluster: &Cluster, rounds_left: u8) {
        let outcome = self.ask(member, cluster);
        let since = self.connections[member].map_or(self.now, |connection| connection.since);
        let answer = Answer { sent: self.now, since, outcome };
        self.late_answers[member] = Some(Late { rounds_left, answer });
    }

    /// The late answers that are due.
    pub(crate) fn take_late_answers(&mut self) {
        for member in 0..MEMBERS {
            if let Some(answer) = due(&mut self.late_answers[member]) {
                let since = answer.since;
                self.tell_answer(member, &answer, ProbeConnection::Persistent { since });
            }
        }
    }

    fn ask(&self, member: usize, cluster: &Cluster) -> Result<ProbeReply, ProbeFailure> {
        let it = &cluster.members[member];
        let server = it.server;
        if !self.reaches[member] || it.isolated || server.up && server.frozen {
            return Err(ProbeFailure::TimedOut);
        }
        if !server.up {
            return Err(ProbeFailure::Refused);
        }
        let timeline = Timeline(server.timeline);
        let role = if server.primary {
            Role::Primary { timeline, written: DEFAULT_LSN }
        } else {
            Role::Replica {
                timeline: Some(timeline),
                received: Some(DEFAULT_LSN),
                replayed: Some(DEFAULT_LSN),
                streaming: true,
            }
        };
        Ok(ProbeReply { system_id: DEFAULT_CLUSTER, started: StartTime(server.started), role })
    }

    /// The connection that an outcome came over: the one that is kept, or a new one.
    fn connect(&mut self, member: usize, outcome: Result<ProbeReply, ProbeFailure>) -> Moment {
        let kept = self.connections[member];
        self.connections[member] = outcome.ok().map(|reply| match kept {
            Some(kept) if kept.started == reply.started.0 => kept,
            _ => Connection { since: self.now, started: reply.started.0 },
        });
        self.connections[member].map_or(self.now, |connection| connection.since)
    }

    fn is_kept_out(&self, member: usize) -> bool {
        let view = self.router.evidence().member(&Told::name(member));
        view.is_some_and(|view| view.published.connect_failure.is_some())
    }

    fn tell_answer(&mut self, member: usize, answer: &Answer, connection: ProbeConnection) {
        if matches!(connection, ProbeConnection::Persistent { .. }) {
            let said = match answer.outcome {
                Ok(reply) => {
                    Some(Said::Role { server: reply.server(), role: (reply.is_primary(), reply.timeline()) })
                }
                Err(failure) if failure.means_down() => Some(Said::Down),
                Err(_) => None,
            };
            said.into_iter().for_each(|said| self.told.hear(member, answer.sent, said));
        }
        let name = Told::name(member);
        let addr = default_addr(&name);
        let socket: Option<SocketAddr> = Some(default_socket(&addr));
        let (sent, outcome) = (answer.sent, answer.outcome);
        self.observe(Observation::Probe { member: name, addr, socket, sent, connection, outcome });
    }
}

/// The late answer, if its time has come.
pub(crate) fn due<T>(late: &mut Option<Late<T>>) -> Option<T> {
    let waiting = late.as_mut()?;
    waiting.rounds_left = waiting.rounds_left.saturating_sub(1);
    if waiting.rounds_left > 0 { None } else { late.take().map(|late| late.answer) }
}
