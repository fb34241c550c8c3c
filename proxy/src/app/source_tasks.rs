//! The feeds: sources that run with the configuration in force, and start anew when it changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::{MemberName, Observation};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::error;

use super::RECHECKS;
use crate::config;
use crate::sources::etcd::EtcdSource;
use crate::sources::{ProbePlan, probe};

/// How long after a source gave up it is started anew.
const RETRY: Duration = Duration::from_secs(2);

/// Follows etcd with the configuration in force; idle without one.
pub(super) async fn follow_etcd(
    mut config: watch::Receiver<Option<config::Etcd>>,
    observations: mpsc::Sender<Observation>,
) -> Infallible {
    loop {
        let present = config.borrow_and_update().clone();
        let following = async {
            match present {
                Some(etcd) => failed(EtcdSource::new(etcd, observations.clone()).run().await).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = following => {}
            changed = config.changed() => stay_if_gone(changed).await,
        }
    }
}

/// Asks the servers with the configuration in force.
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
            failed(probe::run(present, probe_plan.clone(), observations.clone(), woken).await).await
        };
        let waking = async {
            while let Some(member) = rechecks.recv().await {
                // A full channel means that they are being told already.
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

/// A source that cannot work as configured says so and is started anew: a file that was missing may come.
async fn failed<E: std::error::Error + Send + Sync + 'static>(ended: Result<Infallible, E>) {
    let Err(error) = ended;
    error!("cannot observe the cluster: {:#}", anyhow::Error::from(error));
    sleep(RETRY).await;
}

/// The sender of a configuration goes only when the process ends; until then there is nothing to change.
async fn stay_if_gone(changed: Result<(), watch::error::RecvError>) {
    if changed.is_err() {
        std::future::pending().await
    }
}
