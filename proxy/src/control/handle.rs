//! How the rest of the process talks to control: orders, and the view that admin answers are made from.

use std::sync::Arc;

use pg_leader_proxy_core::display::Counted;
use pg_leader_proxy_core::{Evidence, FailoverReport, Moment, Policy, Restrictions, Routing, WriteRoute};
use tokio::sync::{mpsc, oneshot};

use super::restriction::{RestrictionChange, RestrictionError};

/// Everything the router knows and decided at one moment, for people to read.
#[derive(Clone, Debug)]
pub struct View {
    /// When this was so.
    pub now: Moment,
    /// The standing decision.
    pub routing: Arc<Routing>,
    /// The moment from which the write route must not forward without newer evidence.
    pub valid_until: Option<Moment>,
    /// What it rests on.
    pub evidence: Evidence,
    /// The policy in force.
    pub policy: Policy,
    /// Where an operator wants no new sessions.
    pub restrictions: Restrictions,
    /// The changes of leader so far, the oldest first.
    pub reports: Vec<FailoverReport>,
}

impl View {
    /// Where writes go, or why they wait, in one line.
    pub fn summary(&self) -> String {
        let write = match &self.routing.write {
            WriteRoute::Hold(reason) => format!("writes wait: {reason}"),
            WriteRoute::Forward(leader) => match leader.admission().waits() {
                Some(reason) => format!("new writers wait for {}: {reason}", leader.member()),
                None => format!(
                    "writes go to {} at {}, timeline {}",
                    leader.member(),
                    leader.addr(),
                    leader.timeline()
                ),
            },
        };
        match self.routing.alarms.len() {
            0 => write,
            alarms => format!("{write}; {}", Counted(alarms as u64, "alarm")),
        }
    }
}

/// What control is asked.
#[derive(Debug)]
pub(super) enum Request {
    View(oneshot::Sender<View>),
    Policy(Policy),
    Restrict(RestrictionChange, oneshot::Sender<Result<bool, RestrictionError>>),
    Stop(oneshot::Sender<()>),
}

/// Talks to control.
#[derive(Clone, Debug)]
pub struct ControlHandle(mpsc::Sender<Request>);

/// Asks control for its view, and can do nothing else.
#[derive(Clone, Debug)]
pub struct ViewHandle(mpsc::Sender<Request>);

impl ViewHandle {
    /// The view now; `None` once control has stopped.
    pub async fn view(&self) -> Option<View> {
        let (answer, view) = oneshot::channel();
        self.0.send(Request::View(answer)).await.ok()?;
        view.await.ok()
    }
}

impl ControlHandle {
    pub(super) const fn new(requests: mpsc::Sender<Request>) -> Self {
        Self(requests)
    }

    /// A handle for readers.
    pub fn viewer(&self) -> ViewHandle {
        ViewHandle(self.0.clone())
    }

    /// Puts another policy in force.
    pub async fn set_policy(&self, policy: Policy) {
        // Control ends only with the process.
        let _ = self.0.send(Request::Policy(policy)).await;
    }

    /// Changes where new sessions are not wanted. Returns whether that was different before.
    ///
    /// # Errors
    /// If a member is not known, or control has stopped.
    pub async fn restrict(&self, change: RestrictionChange) -> Result<bool, RestrictionError> {
        let (answer, done) = oneshot::channel();
        self.0.send(Request::Restrict(change, answer)).await.map_err(|_| RestrictionError::Stopped)?;
        done.await.map_err(|_| RestrictionError::Stopped)?
    }

    /// Severs every session and admits no more; returns when the sessions have been told.
    pub async fn stop(&self) {
        let (answer, done) = oneshot::channel();
        if self.0.send(Request::Stop(answer)).await.is_ok() {
            let _ = done.await;
        }
    }
}
