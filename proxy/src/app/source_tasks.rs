//! Source tasks: run the sources with the present configuration, and restart them when it changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::{MemberName, Observation};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::error;

use super::RECHECKS;
use crate::config;
use crate::sources::clock::ClockSteps;
use crate::sources::etcd::EtcdSource;
use crate::sources::{ProbePlan, probe};

/// How long after a failure a source is restarted.
const RETRY: Duration = Duration::from_secs(2);

/// Follows etcd with the present configuration; idle if there is none.
pub(super) async fn follow_etcd(
    mut config: watch::Receiver<Option<config::Etcd>>,
    observations: mpsc::Sender<Observation>,
    steps: ClockSteps,
) -> Infallible {
    loop {
        let present = config.borrow_and_update().clone();
        let following = async {
            match present {
                Some(etcd) => {
                    let source = EtcdSource::new(etcd, observations.clone()).rereading_after(steps.clone());
                    failed(source.run().await).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = following => {}
            changed = config.changed() => stay_if_gone(changed).await,
        }
    }
}

/// Probes the servers with the present configuration.
pub(super) async fn ask_servers(
    mut config: watch::Receiver<config::Probe>,
    probe_plan: watch::Receiver<Arc<ProbePlan>>,
    observations: mpsc::Sender<Observation>,
    mut rechecks: mpsc::Receiver<MemberName>,
) -> Infallible {
    loop {
        let present = config.borrow_and_update().clone();
        let (wake, woken) = mpsc::channel(RECHECKS);
        let commands = async {
            let resolver = Arc::new(probe::SystemResolver);
            failed(probe::run(present, resolver, probe_plan.clone(), observations.clone(), woken).await).await
        };
        let waking = async {
            while let Some(member) = rechecks.recv().await {
                // If the channel is full, the probes already have enough to do.
                let _ = wake.try_send(member);
            }
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            () = commands => {}
            never = waking => match never {},
            changed = config.changed() => stay_if_gone(changed).await,
        }
    }
}

/// Logs the failure of a source that cannot work as configured, and waits: a missing file may appear.
async fn failed<E: std::error::Error + Send + Sync + 'static>(ended: Result<Infallible, E>) {
    let Err(error) = ended;
    error!("cannot observe the cluster: {:#}", anyhow::Error::from(error));
    sleep(RETRY).await;
}

/// Never returns once the sender of the configuration is dropped, because the process is about to exit.
async fn stay_if_gone(changed: Result<(), watch::error::RecvError>) {
    if changed.is_err() {
        std::future::pending().await
    }
}
