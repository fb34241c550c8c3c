//! The probes of one member: its name is resolved at intervals, and each of its sockets has a prober.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::{MemberName, Moment, Observation, ProbeConnection, ProbeFailure, ServerAddr};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::super::{ProbePlan, ProbeTarget};
use super::connect::Connector;
use super::error::ProbeError;
use super::prober::Prober;
use super::resolve::{Resolver, choose, literal};
use super::site::Site;
use crate::clock;

/// How often to resolve a name.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(5);
/// The shortest pause between two look-ups while the server takes no connections.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);

/// What all probes share.
pub(super) struct Shared {
    pub(super) connector: Connector,
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) observations: mpsc::Sender<Observation>,
}

impl Shared {
    pub(super) async fn observe(&self, observation: Observation) -> Result<(), ProbeError> {
        self.observations.send(observation).await.map_err(|_| ProbeError::ReceiverGone)
    }
}

/// Probes one member at each socket of the probe plan.
pub(super) struct MemberProbes {
    member: MemberName,
    shared: Arc<Shared>,
    plan: watch::Receiver<Arc<ProbePlan>>,
    woken: mpsc::Receiver<()>,
    target: ProbeTarget,
    /// What its published address resolves to.
    published: Option<SocketAddr>,
    probers: BTreeMap<SocketAddr, Running>,
    tasks: JoinSet<ProbeError>,
    /// The sockets that probers cannot connect to.
    broken: (mpsc::Sender<SocketAddr>, mpsc::Receiver<SocketAddr>),
    names: Names,
}

struct Running {
    wake: mpsc::Sender<()>,
    task: AbortHandle,
}

/// The resolution of the member's name.
struct Names {
    /// The pending look-up. There is never a second one beside it, however long it takes.
    lookup: Option<Pin<Box<dyn Future<Output = io::Result<SocketAddr>> + Send>>>,
    began: Instant,
    /// When to report that it takes too long.
    late: Option<Instant>,
    /// When the next one is due; `None` for an IP address.
    due: Option<Instant>,
    /// Whether the socket in use takes no connections.
    broken: bool,
    complained: bool,
}

impl MemberProbes {
    pub(super) fn new(
        member: MemberName,
        shared: Arc<Shared>,
        plan: watch::Receiver<Arc<ProbePlan>>,
        woken: mpsc::Receiver<()>,
    ) -> Option<Self> {
        let target = plan.borrow().members.get(&member).cloned()?;
        let names = Names {
            lookup: None,
            began: Instant::now(),
            late: None,
            due: Some(Instant::now()),
            broken: false,
            complained: false,
        };
        let published = literal(&target.addr).or(target.published);
        let (probers, tasks) = (BTreeMap::new(), JoinSet::new());
        Some(Self {
            member,
            shared,
            plan,
            woken,
            target,
            published,
            probers,
            tasks,
            broken: mpsc::channel(1),
            names,
        })
    }

    /// Runs until the receiver of observations is gone.
    pub(super) async fn run(mut self) -> ProbeError {
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
        }
    }

    async fn turn(&mut self) -> Result<(), ProbeError> {
        self.match_probers();
        let due = self.names.due.filter(|_| self.names.lookup.is_none());
        tokio::select! {
            biased;
            changed = self.plan.changed() => {
                changed.map_err(|_| ProbeError::ReceiverGone)?;
                self.take_plan();
            }
            found = finished(&mut self.names.lookup) => self.found(found).await?,
            () = until(self.names.late) => self.lookup_is_late().await?,
            () = until(due) => self.look_up().await?,
            Some(socket) = self.broken.1.recv() => self.cannot_connect(socket),
            Some(()) = self.woken.recv() => {
                for prober in self.probers.values() {
                    // If the channel is full, it will wake up anyway.
                    let _ = prober.wake.try_send(());
                }
            }
            Some(end) = self.tasks.join_next() => {
                // An aborted prober is no longer needed.
                if let Ok(error) = end {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn take_plan(&mut self) {
        let Some(target) = self.plan.borrow_and_update().members.get(&self.member).cloned() else { return };
        if target.addr != self.target.addr {
            self.published = None;
            self.names.lookup = None;
            self.names.late = None;
            self.names.due = Some(Instant::now());
        }
        self.target = target;
    }

    /// Starts a prober for each socket to be probed, and stops the others.
    fn match_probers(&mut self) {
        let wanted = [self.published, self.target.former];
        self.probers.retain(|socket, prober| {
            let stays = wanted.contains(&Some(*socket));
            if !stays {
                prober.task.abort();
            }
            stays
        });
        for socket in wanted.into_iter().flatten() {
            if !self.probers.contains_key(&socket) {
                let (wake, woken) = mpsc::channel(1);
                let site = Site { addr: self.target.addr.clone(), socket };
                let prober =
                    Prober::new(self.member.clone(), site, Arc::clone(&self.shared), self.broken.0.clone());
                let task = self.tasks.spawn(prober.run(self.plan.clone(), woken));
                self.probers.insert(socket, Running { wake, task });
            }
        }
    }

    async fn look_up(&mut self) -> Result<(), ProbeError> {
        self.names.began = Instant::now();
        if let Some(socket) = literal(&self.target.addr) {
            self.names.due = None;
            return self.lead_to(socket).await;
        }
        let limit = self.shared.connector.limit();
        let found = self.shared.resolver.resolve(&self.target.addr);
        let present = (self.published, self.names.broken);
        self.names.lookup = Some(Box::pin(choose(found, present, limit)));
        self.names.late = Some(self.names.began + limit);
        Ok(())
    }

    async fn found(&mut self, found: io::Result<SocketAddr>) -> Result<(), ProbeError> {
        self.names.lookup = None;
        self.names.late = None;
        self.names.due = Some(self.names.began + LOOKUP_INTERVAL);
        match found {
            Ok(socket) => {
                self.names.broken = false;
                if std::mem::take(&mut self.names.complained) {
                    info!(member = %self.member, addr = %self.target.addr, "the address can be resolved again");
                }
                self.lead_to(socket).await
            }
            Err(error) => {
                let cause = ProbeError::Unresolved { addr: self.target.addr.clone(), source: error };
                self.cannot_find(&super::super::chain(&cause)).await
            }
        }
    }

    async fn lookup_is_late(&mut self) -> Result<(), ProbeError> {
        self.names.late = Some(Instant::now() + self.shared.connector.limit());
        self.cannot_find("the name server does not answer in time").await
    }

    /// Without a socket there is nothing to probe; with one, a failing name server changes nothing.
    async fn cannot_find(&mut self, error: &str) -> Result<(), ProbeError> {
        if !std::mem::replace(&mut self.names.complained, true) {
            warn!(member = %self.member, addr = %self.target.addr, error, "cannot resolve the address of a member");
        }
        if self.published.is_some() {
            return Ok(());
        }
        let sent = clock::now();
        self.shared.observe(failure(&self.member, &self.target.addr, sent)).await
    }

    async fn lead_to(&mut self, socket: SocketAddr) -> Result<(), ProbeError> {
        if let Some(left) = self.published.replace(socket).filter(|left| *left != socket) {
            info!(member = %self.member, addr = %self.target.addr, %left, %socket, "the address resolves to another server now");
        }
        if self.target.published == Some(socket) {
            return Ok(());
        }
        let (member, addr) = (self.member.clone(), self.target.addr.clone());
        self.shared.observe(Observation::Address { member, addr, socket }).await
    }

    /// The name may resolve to another address by now.
    fn cannot_connect(&mut self, socket: SocketAddr) {
        if self.published == Some(socket) && literal(&self.target.addr).is_none() {
            self.names.broken = true;
            let soon = (self.names.began + LOOKUP_PAUSE).max(Instant::now());
            self.names.due = Some(self.names.due.map_or(soon, |due| due.min(soon)));
        }
    }
}

/// The failure of a member whose address cannot be resolved.
fn failure(member: &MemberName, addr: &ServerAddr, sent: Moment) -> Observation {
    Observation::Probe {
        member: member.clone(),
        addr: addr.clone(),
        socket: None,
        sent,
        connection: ProbeConnection::Persistent { since: sent },
        outcome: Err(ProbeFailure::Unresolved),
    }
}

async fn finished<T>(lookup: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match lookup {
        Some(lookup) => lookup.await,
        None => pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
