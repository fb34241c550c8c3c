//! The probes: query each member over a persistent connection, and at intervals over a new one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use pg_leader_proxy_core::{MemberName, Observation, ProbeReply, ServerAddr};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::ProbePlan;
use crate::config;

mod connect;
mod error;
mod member;
mod persistent;
mod query;
mod tls;
mod urgency;

pub use error::ProbeError;

use connect::Connector;
use member::MemberProbe;

/// Probes every member of the plan for ever, and sends the outcomes to `observations`.
///
/// A member whose name arrives through `wake` is probed at once, because a session's connection to it broke.
///
/// # Errors
/// [`ProbeError`] if there is no CA certificate to verify servers with, and [`ProbeError::ReceiverGone`] if the sender of
/// plans or the receiver of observations is gone.
pub async fn run(
    config: config::Probe,
    probe_plan: watch::Receiver<Arc<ProbePlan>>,
    observations: mpsc::Sender<Observation>,
    wake: mpsc::Receiver<MemberName>,
) -> Result<Infallible, ProbeError> {
    let connector = Arc::new(Connector::new(config)?);
    let probes =
        Probes { connector, probe_plan, observations, tasks: JoinSet::new(), members: BTreeMap::new() };
    probes.run(wake).await
}

/// Probes the server at `addr` once, over a new connection.
///
/// # Errors
/// [`ProbeError`], which says what may be wrong.
pub async fn check_member(config: &config::Probe, addr: &ServerAddr) -> Result<ProbeReply, ProbeError> {
    let connector = Connector::new(config.clone())?;
    let mut connection = connector.connect(addr).await?;
    connection.query(connector.limit()).await
}

struct Probes {
    connector: Arc<Connector>,
    probe_plan: watch::Receiver<Arc<ProbePlan>>,
    observations: mpsc::Sender<Observation>,
    tasks: JoinSet<ProbeError>,
    members: BTreeMap<MemberName, RunningProbe>,
}

/// The running probe of a member.
struct RunningProbe {
    addr: ServerAddr,
    wake: mpsc::Sender<()>,
    probe: AbortHandle,
}

impl Probes {
    async fn run(mut self, mut wake: mpsc::Receiver<MemberName>) -> Result<Infallible, ProbeError> {
        let mut relays = true;
        loop {
            let probe_plan = Arc::clone(&self.probe_plan.borrow_and_update());
            self.sync_members(&probe_plan);
            loop {
                tokio::select! {
                    changed = self.probe_plan.changed() => {
                        changed.map_err(|_| ProbeError::ReceiverGone)?;
                        break;
                    }
                    name = wake.recv(), if relays => match name {
                        Some(name) => self.wake(&name),
                        None => relays = false,
                    },
                    Some(end) = self.tasks.join_next() => {
                        // A probe is aborted when its member left or moved.
                        if let Ok(error) = end {
                            return Err(error);
                        }
                    }
                }
            }
        }
    }

    /// Starts a probe for each new member, and aborts those of members that left or moved.
    fn sync_members(&mut self, probe_plan: &ProbePlan) {
        self.members.retain(|name, asked| {
            let stays = probe_plan.members.get(name) == Some(&asked.addr);
            if !stays {
                asked.probe.abort();
            }
            stays
        });
        for (name, addr) in &probe_plan.members {
            if !self.members.contains_key(name) {
                let asked = self.start(name, addr);
                self.members.insert(name.clone(), asked);
            }
        }
    }

    fn start(&mut self, member: &MemberName, addr: &ServerAddr) -> RunningProbe {
        // One pending wake-up is enough.
        let (wake, woken) = mpsc::channel(1);
        let probe = MemberProbe {
            member: member.clone(),
            addr: addr.clone(),
            connector: Arc::clone(&self.connector),
            observations: self.observations.clone(),
        };
        let probe = self.tasks.spawn(probe.run(self.probe_plan.clone(), woken));
        RunningProbe { addr: addr.clone(), wake, probe }
    }

    fn wake(&self, name: &MemberName) {
        if let Some(asked) = self.members.get(name) {
            // If the channel is full, the probe will wake up anyway.
            let _ = asked.wake.try_send(());
        }
    }
}
