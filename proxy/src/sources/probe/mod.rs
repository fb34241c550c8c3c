//! The servers' own word: each member is asked over a kept connection, and now and then over a fresh one.

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

/// Asks every member of the inquiry for ever, and sends what comes of it to `observations`.
///
/// A name in `wake` has its member asked at once: a relay saw a connection to it break.
///
/// # Errors
/// [`ProbeError`] when the authority's certificates cannot be read, and [`ProbeError::Unheard`] when nobody inquires
/// or takes the observations any more.
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

/// Asks the server at `addr` once, over a connection of its own.
///
/// # Errors
/// [`ProbeError`] that says what to do about it.
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

/// A member that is being asked.
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
                        // An aborted worker belongs to a member that left.
                        if let Ok(error) = end {
                            return Err(error);
                        }
                    }
                }
            }
        }
    }

    /// Starts a worker for each new member, and stops those of members that left or moved.
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
        // One waiting wake-up says all there is to say.
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
            // A full channel means that the worker will wake up anyway.
            let _ = asked.wake.try_send(());
        }
    }
}
