//! The kept connection of one member: asked again and again, as urgently as the router wants it.

use std::future::pending;
use std::sync::Arc;

use pg_leader_proxy_core::{Moment, ProbeConnection, ProbeReply};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::super::ProbePlan;
use super::connect::Connection;
use super::error::ProbeError;
use super::member::{MemberProbe, ProbeLog};
use super::urgency::{MemberUrgency, SHORTEST_RECONNECT};
use crate::clock;

/// Keeps a connection to one member, and asks.
pub(super) struct PersistentProbe<'a> {
    probe: &'a MemberProbe,
    probe_plan: watch::Receiver<Arc<ProbePlan>>,
    woken: mpsc::Receiver<()>,
    log: ProbeLog,
    /// How urgent the word was when the member was last asked.
    urgency: MemberUrgency,
}

/// When the member was last asked or connected to, and what came of it when.
#[derive(Clone, Copy)]
enum LastUse {
    Query { asked: Instant, answered: Instant },
    Attempt { began: Instant },
}

impl<'a> PersistentProbe<'a> {
    pub(super) fn new(
        probe: &'a MemberProbe,
        probe_plan: watch::Receiver<Arc<ProbePlan>>,
        woken: mpsc::Receiver<()>,
    ) -> Self {
        let log = ProbeLog::new(ProbeConnection::Persistent);
        Self { probe, probe_plan, woken, log, urgency: MemberUrgency::Normal }
    }

    pub(super) async fn run(mut self) -> ProbeError {
        loop {
            if let Err(receiver_gone) = self.run_connection().await {
                return receiver_gone;
            }
        }
    }

    /// One connection, from the attempt to make it until the next attempt is due.
    async fn run_connection(&mut self) -> Result<(), ProbeError> {
        let began = Instant::now();
        let sent = clock::now();
        let served = match self.probe.connector.connect(&self.probe.addr).await {
            Ok(connection) => self.query_until_closed(connection).await?,
            Err(error) => {
                self.report(sent, Err(error)).await?;
                false
            }
        };
        if served {
            // It worked, so what broke is only the connection: make another at once.
            sleep_until(began + SHORTEST_RECONNECT).await;
            return Ok(());
        }
        self.pause(LastUse::Attempt { began }, None).await.map(drop)
    }

    /// Asks over `conversation` until it ends. Returns whether there was any answer.
    ///
    /// The end of a connection that has served is no word of the server: an administrator or a firewall may have ended
    /// this one alone. The next attempt follows at once and tells within a round trip what the server is.
    async fn query_until_closed(&mut self, mut connection: Connection) -> Result<bool, ProbeError> {
        let mut served = false;
        loop {
            let asked = Instant::now();
            let mut sent = clock::now();
            let outcome = connection.query(self.probe.connector.limit()).await;
            let lost = outcome.as_ref().is_err_and(|error| !error.keeps_connection());
            if lost && served && outcome.as_ref().is_err_and(|error| error.failure().contradicts()) {
                return Ok(served);
            }
            served |= outcome.is_ok();
            if outcome.as_ref().is_err_and(|error| error.failure().contradicts()) {
                // A connection that never served ends: that is true from when it is seen.
                sent = clock::now();
            }
            self.report(sent, outcome).await?;
            if lost {
                return Ok(served);
            }
            let last = LastUse::Query { asked, answered: Instant::now() };
            if let Some(end) = self.pause(last, Some(&mut connection)).await? {
                if !served {
                    self.report(clock::now(), Err(end)).await?;
                }
                return Ok(served);
            }
        }
    }

    async fn report(
        &mut self,
        sent: Moment,
        outcome: Result<ProbeReply, ProbeError>,
    ) -> Result<(), ProbeError> {
        self.probe.report(&mut self.log, sent, outcome).await
    }

    /// Waits until the member has to be asked again, or until the conversation ends, and then returns why.
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

    /// When to ask again. A word that has become more urgent since it was asked for is due at once.
    fn due(&mut self, last: LastUse) -> Instant {
        let urgency = MemberUrgency::of(&self.probe_plan.borrow_and_update().attention, &self.probe.member);
        let rose = urgency > std::mem::replace(&mut self.urgency, urgency);
        let config = &self.probe.connector.config;
        match last {
            _ if rose => self.earliest(last),
            LastUse::Query { answered, .. } if urgency == MemberUrgency::Burst => {
                answered + urgency.pause(config)
            }
            LastUse::Query { asked, .. } => asked + urgency.pause(config),
            LastUse::Attempt { began } => began + urgency.reconnect_pause(config),
        }
    }

    /// The earliest moment at which the member may be bothered again.
    fn earliest(&self, last: LastUse) -> Instant {
        match last {
            LastUse::Query { answered, .. } => answered + self.probe.connector.config.fast_interval,
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
