//! The kept connection of one member: asked again and again, as urgently as the router wants it.

use std::future::pending;
use std::sync::Arc;

use pg_leader_proxy_core::{Moment, ProbeConnection, ProbeReply};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::super::ProbePlan;
use super::connect::Conversation;
use super::error::ProbeError;
use super::pace::{SHORTEST_RECONNECT, Urgency};
use super::worker::{Voice, Worker};
use crate::clock;

/// Keeps a connection to one member, and asks.
pub(super) struct Kept<'a> {
    worker: &'a Worker,
    probe_plan: watch::Receiver<Arc<ProbePlan>>,
    woken: mpsc::Receiver<()>,
    voice: Voice,
    /// How urgent the word was when the member was last asked.
    urgency: Urgency,
}

/// When the member was last asked or connected to, and what came of it when.
#[derive(Clone, Copy)]
enum Last {
    Question { asked: Instant, answered: Instant },
    Attempt { began: Instant },
}

impl<'a> Kept<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        probe_plan: watch::Receiver<Arc<ProbePlan>>,
        woken: mpsc::Receiver<()>,
    ) -> Self {
        let voice = Voice::new(ProbeConnection::Persistent);
        Self { worker, probe_plan, woken, voice, urgency: Urgency::Normal }
    }

    pub(super) async fn run(mut self) -> ProbeError {
        loop {
            if let Err(unheard) = self.connection().await {
                return unheard;
            }
        }
    }

    /// One connection, from the attempt to make it until the next attempt is due.
    async fn connection(&mut self) -> Result<(), ProbeError> {
        let began = Instant::now();
        let sent = clock::now();
        let served = match self.worker.connector.connect(&self.worker.addr).await {
            Ok(conversation) => self.converse(conversation).await?,
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
        self.pause(Last::Attempt { began }, None).await.map(drop)
    }

    /// Asks over `conversation` until it ends. Returns whether there was any answer.
    ///
    /// The end of a connection that has served is no word of the server: an administrator or a firewall may have ended
    /// this one alone. The next attempt follows at once and tells within a round trip what the server is.
    async fn converse(&mut self, mut conversation: Conversation) -> Result<bool, ProbeError> {
        let mut served = false;
        loop {
            let asked = Instant::now();
            let mut sent = clock::now();
            let outcome = conversation.ask(self.worker.connector.limit()).await;
            let lost = outcome.as_ref().is_err_and(|error| !error.leaves_connection());
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
            let last = Last::Question { asked, answered: Instant::now() };
            if let Some(end) = self.pause(last, Some(&mut conversation)).await? {
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
        self.worker.report(&mut self.voice, sent, outcome).await
    }

    /// Waits until the member has to be asked again, or until the conversation ends, and then returns why.
    async fn pause(
        &mut self,
        last: Last,
        mut conversation: Option<&mut Conversation>,
    ) -> Result<Option<ProbeError>, ProbeError> {
        let mut due = self.due(last);
        loop {
            tokio::select! {
                biased;
                end = ended(&mut conversation) => return Ok(Some(end)),
                changed = self.probe_plan.changed() => {
                    changed.map_err(|_| ProbeError::Unheard)?;
                    due = due.min(self.due(last));
                }
                Some(()) = self.woken.recv() => due = due.min(self.soonest(last)),
                () = sleep_until(due) => return Ok(None),
            }
        }
    }

    /// When to ask again. A word that has become more urgent since it was asked for is due at once.
    fn due(&mut self, last: Last) -> Instant {
        let urgency = Urgency::of(&self.probe_plan.borrow_and_update().attention, &self.worker.member);
        let rose = urgency > std::mem::replace(&mut self.urgency, urgency);
        let config = &self.worker.connector.config;
        match last {
            _ if rose => self.soonest(last),
            Last::Question { answered, .. } if urgency == Urgency::Burst => answered + urgency.pause(config),
            Last::Question { asked, .. } => asked + urgency.pause(config),
            Last::Attempt { began } => began + urgency.reconnect_pause(config),
        }
    }

    /// The earliest moment at which the member may be bothered again.
    fn soonest(&self, last: Last) -> Instant {
        match last {
            Last::Question { answered, .. } => answered + self.worker.connector.config.fast_interval,
            Last::Attempt { began } => began + SHORTEST_RECONNECT,
        }
    }
}

async fn ended(conversation: &mut Option<&mut Conversation>) -> ProbeError {
    match conversation {
        Some(conversation) => conversation.ended().await,
        None => pending().await,
    }
}
