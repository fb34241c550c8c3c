//! Control: owns the router, feeds it observations, and publishes what it decides.

use std::sync::Arc;

use pg_leader_proxy_core::{Evidence, FailoverReport, Moment, Policy, Routing};
use tokio::sync::{mpsc, oneshot};

/// Everything the router knows and decided at one moment, for people to read.
#[derive(Clone, Debug)]
pub struct View {
    /// When this was so.
    pub now: Moment,
    /// The standing decision.
    pub routing: Arc<Routing>,
    /// The moment from which the write route must not forward without newer evidence.
    pub trusted_until: Option<Moment>,
    /// What it rests on.
    pub evidence: Evidence,
    /// The policy in force.
    pub policy: Policy,
    /// The changes of leader so far, the oldest first.
    pub reports: Vec<FailoverReport>,
}

/// Asks control for its view.
#[derive(Clone, Debug)]
pub struct ViewHandle(mpsc::Sender<oneshot::Sender<View>>);

impl ViewHandle {
    /// The view now; `None` once control has stopped.
    pub async fn view(&self) -> Option<View> {
        let (answer, view) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        view.await.ok()
    }
}
