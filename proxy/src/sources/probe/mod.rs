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
mod host_name;
pub(crate) mod login_watch;
mod member;
mod persistent;
mod prober;
pub(crate) mod query;
mod resolve;
mod site;
mod tls;
mod transport;
mod urgency;

pub use error::ProbeError;
pub use resolve::{Lookup, Resolver, SystemResolver};
pub use site::Site;

use connect::Connector;
use member::{MemberProbes, Shared};
use resolve::choose;

/// Probes every member of the plan for ever, and sends the outcomes to `observations`.
///
/// `resolver` resolves the members' addresses. A member whose name arrives through `wake` is probed at once, because a
/// session's connection to it broke.
///
/// # Errors
/// [`ProbeError`] if a certificate or key in the configuration cannot be used, and [`ProbeError::ReceiverGone`] if the sender of
/// plans or the receiver of observations is gone.
pub async fn run(
    config: config::Probe,
    resolver: Arc<dyn Resolver>,
    plan: watch::Receiver<Arc<ProbePlan>>,
    observations: mpsc::Sender<Observation>,
    wake: mpsc::Receiver<MemberName>,
) -> Result<Infallible, ProbeError> {
    let shared = Arc::new(Shared { connector: Connector::new(config)?, resolver, observations });
    Probes { shared, plan, tasks: JoinSet::new(), members: BTreeMap::new() }.run(wake).await
}

/// Probes the server at `addr` once, over a new connection.
///
/// # Errors
/// [`ProbeError`], which says what may be wrong.
pub async fn check_member(config: &config::Probe, addr: &ServerAddr) -> Result<ProbeReply, ProbeError> {
    let connector = Connector::new(config.clone())?;
    let found = choose(SystemResolver.resolve(addr), (None, false), connector.limit());
    let unresolved = |source| ProbeError::Unresolved { addr: addr.clone(), source };
    let site = Site { addr: addr.clone(), socket: found.await.map_err(unresolved)? };
    let mut connection = connector.connect(&site).await?;
    connection.query(connector.limit()).await
}

struct Probes {
    shared: Arc<Shared>,
    plan: watch::Receiver<Arc<ProbePlan>>,
    tasks: JoinSet<ProbeError>,
    members: BTreeMap<MemberName, RunningProbe>,
}

/// The running probes of a member.
struct RunningProbe {
    wake: mpsc::Sender<()>,
    task: AbortHandle,
}

impl Probes {
    async fn run(mut self, mut wake: mpsc::Receiver<MemberName>) -> Result<Infallible, ProbeError> {
        let mut relays = true;
        loop {
            let plan = Arc::clone(&self.plan.borrow_and_update());
            self.match_members(&plan);
            loop {
                tokio::select! {
                    changed = self.plan.changed() => {
                        changed.map_err(|_| ProbeError::ReceiverGone)?;
                        break;
                    }
                    name = wake.recv(), if relays => match name {
                        Some(name) => self.wake(&name),
                        None => relays = false,
                    },
                    Some(end) = self.tasks.join_next() => {
                        // Probes are aborted when their member left.
                        if let Ok(error) = end {
                            return Err(error);
                        }
                    }
                }
            }
        }
    }

    /// Starts the probes of each new member, and aborts those of members that left. Those of a member that moved see that
    /// in the plan.
    fn match_members(&mut self, plan: &ProbePlan) {
        self.members.retain(|name, asked| {
            let stays = plan.members.contains_key(name);
            if !stays {
                asked.task.abort();
            }
            stays
        });
        for name in plan.members.keys() {
            if !self.members.contains_key(name) {
                // One pending wake-up is enough.
                let (wake, woken) = mpsc::channel(1);
                let probes =
                    MemberProbes::new(name.clone(), Arc::clone(&self.shared), self.plan.clone(), woken);
                let Some(probes) = probes else { continue };
                let task = self.tasks.spawn(probes.run());
                self.members.insert(name.clone(), RunningProbe { wake, task });
            }
        }
    }

    fn wake(&self, name: &MemberName) {
        if let Some(asked) = self.members.get(name) {
            // If the channel is full, the probes will wake up anyway.
            let _ = asked.wake.try_send(());
        }
    }
}
