//! Control: owns the router, feeds it observations, and publishes what it decides.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::{
    Evidence, FailoverLog, FailoverReport, Leader, Moment, Notifier, Observation, Policy, ReadRoute,
    ReadServer, Reason, Router, Routing, WriteRoute,
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::clock;
use crate::gate::Gate;
use crate::news::{self, News, Outbox};
use crate::pass::{Pass, Severance};
use crate::sources::Inquiry;
use crate::tally::{RouteKind, Tally};
use crate::targets::{Target, Targets, hold_reason};

/// How many observations may wait for the router. Sources wait when it is full, so none is lost.
pub const OBSERVATIONS: usize = 1024;
/// How many questions and orders may wait.
const REQUESTS: usize = 64;

/// Everything the router knows and decided at one moment, for people to read.
#[derive(Clone, Debug)]
pub struct View {
    /// When this was so.
    pub now: Moment,
    /// The standing decision.
    pub routing: Arc<Routing>,
    /// The moment from which the write route must not forward without newer evidence.
    pub valid_until: Option<Moment>,
    /// What it rests on.
    pub evidence: Evidence,
    /// The policy in force.
    pub policy: Policy,
    /// The changes of leader so far, the oldest first.
    pub reports: Vec<FailoverReport>,
}

/// What control is asked.
#[derive(Debug)]
enum Request {
    View(oneshot::Sender<View>),
    Policy(Policy),
    Stop(oneshot::Sender<()>),
}

/// Talks to control.
#[derive(Clone, Debug)]
pub struct ControlHandle(mpsc::Sender<Request>);

/// Asks control for its view, and can do nothing else.
#[derive(Clone, Debug)]
pub struct ViewHandle(mpsc::Sender<Request>);

impl ViewHandle {
    /// The view now; `None` once control has stopped.
    pub async fn view(&self) -> Option<View> {
        let (answer, view) = oneshot::channel();
        self.0.send(Request::View(answer)).await.ok()?;
        view.await.ok()
    }
}

impl ControlHandle {
    /// A handle for readers.
    pub fn viewer(&self) -> ViewHandle {
        ViewHandle(self.0.clone())
    }

    /// Puts another policy in force.
    pub async fn set_policy(&self, policy: Policy) {
        // Control ends only with the process.
        let _ = self.0.send(Request::Policy(policy)).await;
    }

    /// Severs every session and admits no more; returns when the sessions have been told.
    pub async fn stop(&self) {
        let (answer, done) = oneshot::channel();
        if self.0.send(Request::Stop(answer)).await.is_ok() {
            let _ = done.await;
        }
    }
}

/// What control publishes to.
#[derive(Debug)]
pub struct Outlets {
    /// Where sessions go.
    pub targets: watch::Sender<Arc<Targets>>,
    /// Whom the probes ask.
    pub inquiry: watch::Sender<Arc<Inquiry>>,
    /// The gate of the write route.
    pub write_gate: Gate,
    /// The gate of the read route.
    pub read_gate: Gate,
    /// What is counted.
    pub tally: Arc<Tally>,
    /// Whom to tell what is worth telling.
    pub news: Outbox,
}

impl Outlets {
    /// Outlets to which nothing was published yet, and where to read them.
    pub fn new(
        write_gate: Gate,
        read_gate: Gate,
        tally: Arc<Tally>,
    ) -> (Self, watch::Receiver<Arc<Targets>>, watch::Receiver<Arc<Inquiry>>) {
        let nobody = Targets { write: Err(Reason::Starting), read: Err(Reason::Starting) };
        let nothing =
            Inquiry { members: BTreeMap::new(), attention: pg_leader_proxy_core::ProbeUrgency::Elevated };
        let (targets, targets_seen) = watch::channel(Arc::new(nobody));
        let (inquiry, inquiry_seen) = watch::channel(Arc::new(nothing));
        (
            Self { targets, inquiry, write_gate, read_gate, tally, news: Outbox::default() },
            targets_seen,
            inquiry_seen,
        )
    }
}

/// The worker that owns the router.
#[derive(Debug)]
pub struct Control {
    router: Router,
    failover_log: FailoverLog,
    outlets: Outlets,
    requests: mpsc::Receiver<Request>,
    observations: mpsc::Receiver<Observation>,
    notifier: Notifier,
    stopped: bool,
}

impl Control {
    /// A control that refuses until it has observed something.
    pub fn new(
        policy: Policy,
        observations: mpsc::Receiver<Observation>,
        outlets: Outlets,
    ) -> (Self, ControlHandle) {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let control = Self {
            router: Router::new(policy),
            failover_log: FailoverLog::default(),
            outlets,
            requests,
            observations,
            notifier: Notifier::new(clock::now()),
            stopped: false,
        };
        (control, ControlHandle(sender))
    }

    /// Observes and decides for as long as the process lives.
    pub async fn run(mut self) -> Infallible {
        loop {
            let now = clock::now();
            let untold = if self.stopped { None } else { self.notifier.deadline() };
            let deadline = self.router.deadline().into_iter().chain(untold).min();
            let wait = deadline.map_or(Duration::MAX, |deadline| deadline.since(now));
            tokio::select! {
                biased;
                Some(observation) = self.observations.recv() => self.observe(observation),
                Some(request) = self.requests.recv() => self.answer(request),
                () = self.outlets.news.forward(), if self.outlets.news.is_waiting() => {}
                () = tokio::time::sleep(wait) => self.update(None, |router, now| { router.advance(now); }),
            }
            self.tell_news();
        }
    }

    fn observe(&mut self, observation: Observation) {
        let fact = observation.clone();
        self.update(Some(&fact), |router, now| {
            router.observe(observation, now);
        });
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::View(answer) => {
                // Whoever asked may be gone.
                let _ = answer.send(self.view());
            }
            Request::Policy(policy) => self.update(None, |router, now| {
                router.set_policy(policy, now);
            }),
            Request::Stop(answer) => {
                self.stop();
                let _ = answer.send(());
            }
        }
    }

    fn view(&self) -> View {
        View {
            now: clock::now(),
            routing: Arc::new(self.router.routing().clone()),
            valid_until: self.router.valid_until(),
            evidence: self.router.evidence().clone(),
            policy: *self.router.policy(),
            reports: self.failover_log.reports().cloned().collect(),
        }
    }

    /// Lets `change` happen to the router and publishes what follows from it.
    fn update(&mut self, fact: Option<&Observation>, change: impl FnOnce(&mut Router, Moment)) {
        let now = clock::now();
        let before = self.router.routing().clone();
        change(&mut self.router, now);
        let after = self.router.routing().clone();
        self.failover_log.note(fact, &before.write, &after.write, now);
        self.ask(&after);
        if self.stopped {
            return;
        }
        if before != after {
            announce(&before.write, &after.write);
            self.notifier.note(&after, now);
            self.publish(&after);
        }
        self.extend_passes();
    }

    /// Every probe moves the end of the passes, and nothing else.
    fn extend_passes(&self) {
        let targets = self.outlets.targets.borrow();
        for target in targets.all(RouteKind::Write) {
            self.router.valid_until().into_iter().for_each(|until| target.pass.extend(until));
        }
        for target in targets.all(RouteKind::Read) {
            self.router
                .read_valid_until(&target.member)
                .into_iter()
                .for_each(|until| target.pass.extend(until));
        }
    }

    fn ask(&self, routing: &Routing) {
        let known = self.router.evidence().servers();
        let members = known.iter().map(|(name, testimony)| (name.clone(), testimony.addr.clone())).collect();
        let inquiry = Inquiry { members, attention: routing.probe_urgency.clone() };
        self.outlets.inquiry.send_if_modified(|asked| {
            let other = **asked != inquiry;
            if other {
                *asked = Arc::new(inquiry);
            }
            other
        });
    }

    /// Ends the passes that no longer hold, before anybody can read of new ones.
    fn publish(&self, routing: &Routing) {
        let known = Arc::clone(&self.outlets.targets.borrow());
        let targets =
            Targets { write: self.write_target(&known, routing), read: self.read_targets(&known, routing) };
        for old in known.all(RouteKind::Write) {
            if targets.all(RouteKind::Write).iter().all(|new| !Arc::ptr_eq(&new.pass, &old.pass)) {
                old.pass.revoke(match &targets.write {
                    Ok(_) => Severance::NewLeader,
                    Err(reason) => Severance::Route(reason.clone()),
                });
                old.tally.iter().for_each(|tally| tally.end(clock::now()));
            }
        }
        for old in known.all(RouteKind::Read) {
            if targets.all(RouteKind::Read).iter().all(|new| !Arc::ptr_eq(&new.pass, &old.pass)) {
                old.pass.revoke(Severance::Route(Reason::NoReplica));
            }
        }
        let write_open = targets.choose(RouteKind::Write).is_ok();
        let read_open = targets.choose(RouteKind::Read).is_ok();
        self.outlets.targets.send_replace(Arc::new(targets));
        self.outlets.write_gate.set_open(write_open);
        self.outlets.read_gate.set_open(read_open);
    }

    fn write_target(&self, known: &Targets, routing: &Routing) -> Result<Target, Reason> {
        let leader = match &routing.write {
            WriteRoute::Hold(reason) => return Err(reason.clone()),
            WriteRoute::Forward(leader) => leader,
        };
        let hold_reason = leader.hold_reason().cloned();
        match &known.write {
            Ok(target) if target.epoch == leader.epoch() => Ok(Target { hold_reason, ..target.clone() }),
            _ => Ok(Target {
                member: leader.member().clone(),
                addr: leader.addr().clone(),
                epoch: leader.epoch(),
                pass: Arc::new(Pass::until(self.router.valid_until().unwrap_or_default())),
                hold_reason,
                tally: Some(self.outlets.tally.begin_epoch(leader.epoch())),
                sessions: Arc::default(),
            }),
        }
    }

    fn read_targets(&self, known: &Targets, routing: &Routing) -> Result<Vec<Target>, Reason> {
        match &routing.read {
            ReadRoute::Hold(reason) => Err(reason.clone()),
            ReadRoute::Serve(servers) => {
                Ok(servers.iter().map(|server| self.read_target(known, server)).collect())
            }
        }
    }

    fn read_target(&self, known: &Targets, server: &ReadServer) -> Target {
        let hold_reason = hold_reason(server.admission);
        let kept = known
            .all(RouteKind::Read)
            .iter()
            .find(|target| target.member == server.member && target.epoch == server.epoch);
        match kept {
            Some(target) => Target { hold_reason, ..target.clone() },
            None => Target {
                member: server.member.clone(),
                addr: server.addr.clone(),
                epoch: server.epoch,
                pass: Arc::new(Pass::until(self.router.read_valid_until(&server.member).unwrap_or_default())),
                hold_reason,
                tally: None,
                sessions: Arc::default(),
            },
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.outlets.write_gate.close_for_good();
        self.outlets.read_gate.close_for_good();
        let known = Arc::clone(&self.outlets.targets.borrow());
        for target in RouteKind::ALL.iter().flat_map(|route| known.all(*route)) {
            target.pass.revoke(Severance::Stopping);
        }
    }

    /// Tells what is worth telling by now: to the log, and to whoever wants to hear it.
    fn tell_news(&mut self) {
        if self.stopped {
            return;
        }
        let tally = Arc::clone(&self.outlets.tally);
        for told in self.notifier.advance(clock::now(), |from, to| tally.toll(from, to)) {
            news::log(&told);
            self.outlets.news.send(News::from(&told));
        }
    }
}

/// Logs each step of the write route, also those that are too small to be news.
fn announce(before: &WriteRoute, after: &WriteRoute) {
    match (before, after) {
        (WriteRoute::Forward(lost), WriteRoute::Hold(reason)) => {
            warn!(member = %lost.member(), epoch = %lost.epoch(), reason = reason.code(), "holding: {reason}");
        }
        (WriteRoute::Hold(was), WriteRoute::Hold(reason)) if was.code() != reason.code() => {
            info!(reason = reason.code(), "holding: {reason}");
        }
        (_, WriteRoute::Forward(leader)) if before.leader().map(Leader::epoch) != Some(leader.epoch()) => {
            let (member, epoch, timeline) = (leader.member(), leader.epoch(), leader.timeline());
            info!(%member, %epoch, %timeline, addr = %leader.addr(), "forwarding to {member}");
        }
        _ => {}
    }
}
