//! The persistent connection to a server, which is queried as often as the probe plan says.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use pg_leader_proxy_core::{Moment, ProbeConnection, ProbeReply};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::ProbePlan;
use super::connect::Connection;
use super::error::ProbeError;
use super::prober::Prober;
use super::urgency::{MemberUrgency, SHORTEST_RECONNECT};
use crate::clock;

/// For how many times the timeout a connection is kept without an answer.
const PATIENCE: u32 = 5;

/// Probes a server over a persistent connection.
pub(super) struct PersistentProbe<'a> {
    prober: &'a Prober,
    probe_plan: watch::Receiver<Arc<ProbePlan>>,
    woken: mpsc::Receiver<()>,
    /// The urgency when the last interval was computed.
    urgency: MemberUrgency,
}

/// The last query, or attempt to connect.
#[derive(Clone, Copy)]
enum LastUse {
    Query { asked: Instant, answered: Instant },
    Attempt { began: Instant },
}

impl<'a> PersistentProbe<'a> {
    pub(super) fn new(
        prober: &'a Prober,
        probe_plan: watch::Receiver<Arc<ProbePlan>>,
        woken: mpsc::Receiver<()>,
    ) -> Self {
        Self { prober, probe_plan, woken, urgency: MemberUrgency::Normal }
    }

    pub(super) async fn run(mut self) -> ProbeError {
        loop {
            if let Err(receiver_gone) = self.run_connection().await {
                return receiver_gone;
            }
        }
    }

    /// Runs one connection, from the attempt to connect until the next attempt is due.
    async fn run_connection(&mut self) -> Result<(), ProbeError> {
        let began = Instant::now();
        let since = clock::now();
        let served = match self.prober.shared.connector.connect(&self.prober.site).await {
            Ok(connection) => self.query_until_closed(connection, since).await?,
            Err(error) => {
                self.report(since, (since, Err(error))).await?;
                false
            }
        };
        if served {
            // The connection worked before it broke: try a new one at once.
            sleep_until(began + SHORTEST_RECONNECT).await;
            return Ok(());
        }
        self.pause(LastUse::Attempt { began }, None).await.map(drop)
    }

    /// Queries over `connection`, which was begun at `since`, until it closes. Returns whether there was any reply.
    ///
    /// The end of a connection that has worked is not reported: an administrator or a firewall may have closed just this
    /// one. A new attempt follows at once, and shows within a round trip whether the server is down.
    async fn query_until_closed(
        &mut self,
        mut connection: Connection,
        since: Moment,
    ) -> Result<bool, ProbeError> {
        let mut served = false;
        loop {
            let asked = Instant::now();
            let sent = clock::now();
            let outcome = self.query(&mut connection, since, sent).await?;
            let lost = outcome.as_ref().is_err_and(|error| !error.keeps_connection());
            if lost && served {
                return Ok(served);
            }
            served |= outcome.is_ok();
            self.report(since, (sent, outcome)).await?;
            if lost {
                return Ok(served);
            }
            let last = LastUse::Query { asked, answered: Instant::now() };
            if let Some(end) = self.pause(last, Some(&mut connection)).await? {
                if !served {
                    self.report(since, (clock::now(), Err(end))).await?;
                }
                return Ok(served);
            }
        }
    }

    /// Queries once. Each timeout is reported, but the connection is kept for a while: a server that is busy, or that was
    /// stopped and continues, answers over it, and may have no other connection to give.
    async fn query(
        &mut self,
        connection: &mut Connection,
        since: Moment,
        sent: Moment,
    ) -> Result<Result<ProbeReply, ProbeError>, ProbeError> {
        let limit = self.prober.shared.connector.limit();
        let mut answer = pin!(connection.query(limit * PATIENCE));
        loop {
            tokio::select! {
                biased;
                outcome = &mut answer => return Ok(outcome),
                () = sleep(limit) => {
                    let late = ProbeError::Timeout { site: self.prober.site.clone(), operation: "get its reply", limit };
                    self.report(since, (sent, Err(late))).await?;
                }
            }
        }
    }

    async fn report(
        &mut self,
        since: Moment,
        outcome: (Moment, Result<ProbeReply, ProbeError>),
    ) -> Result<(), ProbeError> {
        self.prober.report(ProbeConnection::Persistent { since }, outcome).await
    }

    /// Waits until the member must be probed again, or until the connection closes, and then returns why it closed.
    async fn pause(
        &mut self,
        last: LastUse,
        mut connection: Option<&mut Connection>,
    ) -> Result<Option<ProbeError>, ProbeError> {
        let mut due = self.due(last);
        loop {
            tokio::select! {
                biased;
                end = ended(&mut connection) => return Ok(Some(end)),
                changed = self.probe_plan.changed() => {
                    changed.map_err(|_| ProbeError::ReceiverGone)?;
                    due = due.min(self.due(last));
                }
                Some(()) = self.woken.recv() => due = due.min(self.earliest(last)),
                () = sleep_until(due) => return Ok(None),
            }
        }
    }

    /// When to probe again: at once if the urgency has risen, otherwise after the interval.
    fn due(&mut self, last: LastUse) -> Instant {
        let urgency = MemberUrgency::of(&self.probe_plan.borrow_and_update().urgency, &self.prober.member);
        let rose = urgency > std::mem::replace(&mut self.urgency, urgency);
        let config = &self.prober.shared.connector.config;
        match last {
            _ if rose => self.earliest(last),
            LastUse::Query { answered, .. } if urgency == MemberUrgency::Burst => {
                answered + urgency.pause(config)
            }
            LastUse::Query { asked, .. } => asked + urgency.pause(config),
            LastUse::Attempt { began } => began + urgency.reconnect_pause(config),
        }
    }

    /// The earliest moment at which the member may be probed again.
    fn earliest(&self, last: LastUse) -> Instant {
        match last {
            LastUse::Query { answered, .. } => answered + self.prober.shared.connector.config.fast_interval,
            LastUse::Attempt { began } => began + SHORTEST_RECONNECT,
        }
    }
}

async fn ended(connection: &mut Option<&mut Connection>) -> ProbeError {
    match connection {
        Some(connection) => connection.ended().await,
        None => pending().await,
    }
}
