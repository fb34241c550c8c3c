//! One event: the clients of all contenders at work, the leader changes, and everybody is watched until it is over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use lab::{Cluster, History, KeyWatch, NewClient, NewClients, Writers};

use crate::contenders::{Contender, Field, LATECOMER_EVERY};
use crate::machine::BusyWatch;
use crate::measure::{self, Outline, ms_between};
use crate::polling::{LeftRecovery, left_recovery};
use crate::results::{Event, Kind};

/// A cluster to become healthy, with a rewind; a leader key to expire and a promotion.
const PATIENCE: Duration = Duration::from_secs(90);
/// A contender to serve before an event: the recommended check needs up to nine seconds to drop a former leader.
const SETTLE: Duration = Duration::from_secs(45);
/// Without a failure for so long, a contender has settled.
const QUIET: Duration = Duration::from_secs(1);
/// Before an event, at least; and what is added from event to event, so that the events do not all fall on the same
/// moment of the checks' 3 seconds.
const CALM: Duration = Duration::from_secs(2);
const CALM_STEP: Duration = Duration::from_millis(700);
const CALM_ROUND: u32 = 5;
/// A contender to serve after the new leader has left recovery. Twice what the recommended check needs.
const RESUME: Duration = Duration::from_secs(15);
/// Watched after all is healthy again: the former leader is back by then, and some send writes to it.
const AFTER: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);

/// What events happen to, and who watches.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The contenders in front of it.
    pub field: &'a Field,
    /// Who holds the leader key when.
    pub keys: &'a KeyWatch,
}

impl Stage<'_> {
    /// Lets it happen, and says what everybody saw. The cluster is healthy afterwards.
    ///
    /// # Errors
    /// When the cluster or a contender that should serve does not, or a client cannot be started.
    pub async fn play(&self, number: usize, kind: Kind) -> Result<Event> {
        let cluster = self.cluster;
        let from = cluster.wait_healthy(PATIENCE).await?;
        let to = cluster.others(&from).first().cloned().context("the cluster has one member only")?;
        let crowd = Crowd::start(self)?;
        crowd.settle().await?;
        tokio::time::sleep(CALM + CALM_STEP * (u32::try_from(number)? % CALM_ROUND)).await;

        let busy = BusyWatch::start();
        let (began, left) = self.strike(kind, &from, &to).await?;
        crowd.wait_resumed(&to, began).await;
        cluster.start_member(&from)?;
        cluster.wait_healthy(PATIENCE).await?;
        tokio::time::sleep(AFTER).await;
        let records = crowd.stop().await;

        let outline = Outline { began, left_recovery: left.seen, from, to, keys: self.keys.history() };
        let since = |at: Instant| ms_between(began, at);
        Ok(Event {
            number,
            kind,
            key_gone_ms: outline.keys.deleted_after(began).map(|event| since(event.at)),
            key_taken_ms: outline.keys.taken_after(began).map(|event| since(event.at)),
            out_of_recovery_ms: since(left.seen),
            out_of_recovery_uncertain_ms: ms_between(left.not_before, left.seen),
            busy: busy.around(left.seen),
            seen: records
                .iter()
                .map(|(contender, history, arrivals)| {
                    measure::seen(contender.name(), &outline, history, arrivals)
                })
                .collect(),
            from: outline.from,
            to: outline.to,
        })
    }

    /// Changes the leader. Returns when it began and when the new one was out of recovery.
    async fn strike(&self, kind: Kind, from: &str, to: &str) -> Result<(Instant, LeftRecovery)> {
        let poll = left_recovery(self.cluster.superuser(to, "postgres").await?, PATIENCE);
        let began = Instant::now();
        let act = async {
            match kind {
                Kind::Switchover => self.cluster.switchover(to).await,
                Kind::Death => self.cluster.kill_member(from),
            }
        };
        let (left, ()) = tokio::try_join!(poll, act)?;
        Ok((began, left))
    }
}

/// The clients of all contenders.
struct Crowd(Vec<(Contender, Writers, NewClients)>);

impl Crowd {
    fn start(stage: &Stage<'_>) -> Result<Self> {
        let (cluster, field) = (stage.cluster, stage.field);
        let clients = field.contenders.iter().map(|contender| {
            let writers = Writers::start(field.writers(cluster, *contender)?)?;
            let latecomers = NewClients::start(field.latecomers(cluster, *contender)?, LATECOMER_EVERY)?;
            Ok((*contender, writers, latecomers))
        });
        clients.collect::<Result<_>>().map(Self)
    }

    /// Those that are expected to serve.
    fn expected(&self) -> impl Iterator<Item = (Contender, &Writers)> {
        let all = self.0.iter().map(|(contender, writers, _)| (*contender, writers));
        all.filter(|(contender, _)| contender.finds_leader())
    }

    async fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + SETTLE;
        for (contender, writers) in self.expected() {
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
                    contender.name(),
                    history.messages
                );
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Waits until every contender has served the new leader, but not for ever: who has not, has not.
    async fn wait_resumed(&self, to: &str, began: Instant) {
        let deadline = Instant::now() + RESUME;
        let waiting = || self.expected().any(|(_, writers)| writers.snapshot().first_by(to, began).is_none());
        while waiting() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn stop(self) -> Vec<(Contender, History, Vec<NewClient>)> {
        // All at once: they are compared over the same time, and a latecomer that waits may take half a minute.
        let stopping = self.0.into_iter().map(|(contender, writers, latecomers)| async move {
            let (history, arrivals) = tokio::join!(writers.stop(), latecomers.stop());
            (contender, history, arrivals)
        });
        join_all(stopping).await
    }
}
