//! The feeds: sources that run with the configuration in force, and start anew when it changes.

use std::convert::Infallible;
use std::sync::Arc;

use pg_leader_proxy_core::{MemberName, Observation};
use tokio::sync::{mpsc, watch};

use super::SUSPECTS;
use crate::config;
use crate::sources::{self, Inquiry};

/// Follows etcd with the configuration in force; idle without one.
pub(super) async fn follow_etcd(
    mut config: watch::Receiver<Option<config::Etcd>>,
    observations: mpsc::Sender<Observation>,
) -> Infallible {
    loop {
        let present = config.borrow_and_update().clone();
        let following = async {
            match present {
                Some(etcd) => sources::EtcdSource::new(etcd, observations.clone()).run().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            never = following => match never {},
            changed = config.changed() => stay_if_gone(changed).await,
        }
    }
}

/// Asks the servers with the configuration in force.
pub(super) async fn ask_servers(
    mut config: watch::Receiver<config::Probe>,
    inquiry: watch::Receiver<Arc<Inquiry>>,
    observations: mpsc::Sender<Observation>,
    mut suspects: mpsc::Receiver<MemberName>,
) -> Infallible {
    loop {
        let present = config.borrow_and_update().clone();
        let (wake, woken) = mpsc::channel(SUSPECTS);
        let asking = sources::probe::run(present, inquiry.clone(), observations.clone(), woken);
        let waking = async {
            while let Some(member) = suspects.recv().await {
                // A full channel means that they are being told already.
                let _ = wake.try_send(member);
            }
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            never = asking => match never {},
            never = waking => match never {},
            changed = config.changed() => stay_if_gone(changed).await,
        }
    }
}

/// The sender of a configuration goes only when the process ends; until then there is nothing to change.
async fn stay_if_gone(changed: Result<(), watch::error::RecvError>) {
    if changed.is_err() {
        std::future::pending().await
    }
}
