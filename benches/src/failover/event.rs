//! One event: with the clients of all setups at work, the leader changes, and all are observed until it is over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use lab::{Cluster, History, KeyWatch, LeftRecovery, NewClient, NewClients, Writers, left_recovery};

use super::evaluate::{EventTimes, evaluate, ms_between};
use super::results::{Event, Kind};
use super::setups::{NEW_CLIENT_EVERY, RunningSetups, Setup, new_clients, writers};
use crate::usage::CpuSampler;

/// For the cluster to become healthy, with a rewind; for a leader key to expire and a promotion.
const PATIENCE: Duration = Duration::from_secs(90);
/// For a setup to serve before an event. The recommended check needs up to nine seconds to drop a former leader.
const SETTLE: Duration = Duration::from_secs(45);
/// A setup has settled when it was without a failure for so long.
const QUIET: Duration = Duration::from_secs(1);
/// The least pause before an event, and what is added from event to event, so that events do not always fall on the same
/// moment of the checks' 3 seconds.
const CALM: Duration = Duration::from_secs(2);
const CALM_STEP: Duration = Duration::from_millis(700);
const CALM_STEPS: u32 = 5;
/// For a setup to serve after the new leader has left recovery: twice what the recommended check needs.
const RESUME: Duration = Duration::from_secs(15);
/// Observed after all is healthy again: by then the former leader is back, and some setups send writes to it.
const AFTER: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(100);

/// What events happen to.
#[derive(Debug)]
pub(crate) struct Experiment<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) running: &'a RunningSetups,
    pub(crate) keys: &'a KeyWatch,
}

impl Experiment<'_> {
    /// Triggers an event and returns what the clients of every setup saw. The cluster is healthy afterwards.
    pub(crate) async fn run(&self, number: usize, kind: Kind) -> Result<Event> {
        let cluster = self.cluster;
        let from = cluster.wait_healthy(PATIENCE).await?;
        let to = cluster.others(&from).first().cloned().context("the cluster has only one member")?;
        let clients = Clients::start(self)?;
        clients.wait_until_served().await?;
        tokio::time::sleep(CALM + CALM_STEP * (u32::try_from(number)? % CALM_STEPS)).await;

        let sampler = CpuSampler::start();
        let (began, left) = self.trigger(kind, &from, &to).await?;
        clients.wait_until_resumed(&to, began).await;
        cluster.start_member(&from)?;
        cluster.wait_healthy(PATIENCE).await?;
        tokio::time::sleep(AFTER).await;
        let records = clients.stop().await;

        let times = EventTimes { began, left_recovery: left.seen, from, to, keys: self.keys.history() };
        let since = |at: Instant| ms_between(began, at);
        Ok(Event {
            number,
            kind,
            key_deleted_ms: times.keys.deleted_after(began).map(|event| since(event.at)),
            key_taken_ms: times.keys.taken_after(began).map(|event| since(event.at)),
            left_recovery_ms: since(left.seen),
            left_recovery_uncertainty_ms: ms_between(left.not_before, left.seen),
            cpu_busy: sampler.busy_around(left.seen),
            results: records
                .iter()
                .map(|(setup, history, clients)| evaluate(setup.name(), &times, history, clients))
                .collect(),
            from: times.from,
            to: times.to,
        })
    }

    /// Changes the leader. Returns when that began, and when the new leader left recovery.
    async fn trigger(&self, kind: Kind, from: &str, to: &str) -> Result<(Instant, LeftRecovery)> {
        let poll = left_recovery(self.cluster.superuser(to, "postgres").await?, PATIENCE);
        let began = Instant::now();
        let act = async {
            match kind {
                Kind::Switchover => self.cluster.switchover(to).await,
                Kind::LeaderCrash => self.cluster.kill_member(from),
            }
        };
        let (left, ()) = tokio::try_join!(poll, act)?;
        Ok((began, left))
    }
}

/// The clients of all setups.
struct Clients(Vec<(Setup, Writers, NewClients)>);

impl Clients {
    fn start(experiment: &Experiment<'_>) -> Result<Self> {
        let cluster = experiment.cluster;
        let clients = experiment.running.setups.iter().map(|setup| {
            let writers = Writers::start(writers(cluster, *setup)?)?;
            let new_clients = NewClients::start(new_clients(cluster, *setup)?, NEW_CLIENT_EVERY)?;
            Ok((*setup, writers, new_clients))
        });
        clients.collect::<Result<_>>().map(Self)
    }

    /// The writers of the setups that find the leader.
    fn expected(&self) -> impl Iterator<Item = (Setup, &Writers)> {
        let all = self.0.iter().map(|(setup, writers, _)| (*setup, writers));
        all.filter(|(setup, _)| setup.finds_leader())
    }

    async fn wait_until_served(&self) -> Result<()> {
        let deadline = Instant::now() + SETTLE;
        for (setup, writers) in self.expected() {
            loop {
                let history = writers.snapshot();
                let failed = history.failed.last().map(|failed| failed.ended);
                let quiet_since = failed.map_or(history.begin, |failed| failed.max(history.begin));
                if history.end > quiet_since + QUIET && !history.acknowledged.is_empty() {
                    break;
                }
                ensure!(
                    Instant::now() < deadline,
                    "{} does not serve {SETTLE:?} after its writers began: {:?}",
                    setup.name(),
                    history.messages
                );
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Waits until every setup has served a write of the new leader, or the time is up.
    async fn wait_until_resumed(&self, to: &str, began: Instant) {
        let deadline = Instant::now() + RESUME;
        let waiting = || self.expected().any(|(_, writers)| writers.snapshot().first_by(to, began).is_none());
        while waiting() && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
    }

    async fn stop(self) -> Vec<(Setup, History, Vec<NewClient>)> {
        // All at once, so that all are observed for the same time: a new client that waits may take half a minute.
        let stopping = self.0.into_iter().map(|(setup, writers, new_clients)| async move {
            let (history, clients) = tokio::join!(writers.stop(), new_clients.stop());
            (setup, history, clients)
        });
        join_all(stopping).await
    }
}
