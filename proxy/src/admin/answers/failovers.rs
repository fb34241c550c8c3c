//! The changes of leader.

use serde::{Deserialize, Serialize};

use super::common::{PrimaryAnswer, ReasonAnswer};

/// `/failovers`: the changes of leader, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoversAnswer {
    /// The cluster: Patroni's scope.
    pub cluster: String,
    /// How many there were since the process started; older ones are forgotten.
    pub total: u64,
    /// Those that are remembered.
    pub failovers: Vec<FailoverAnswer>,
}

/// One change of leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverAnswer {
    /// The leader that was lost.
    pub from: PrimaryAnswer,
    /// The epoch that ended.
    pub from_epoch: u64,
    /// The next leader, once there is one.
    pub to: Option<PrimaryAnswer>,
    /// The epoch that began.
    pub to_epoch: Option<u64>,
    /// Why forwarding stopped.
    pub cause: ReasonAnswer,
    /// How long ago forwarding stopped.
    pub age_ms: u64,
    /// How long new sessions waited for a leader, once they go to one again.
    pub write_downtime_ms: Option<u64>,
    /// How many sessions were terminated, or ended by the server itself in the seconds before.
    pub terminated_sessions: u64,
    /// How many clients waited for the next leader.
    pub held_clients: u64,
    /// What happened, in order.
    pub steps: Vec<StepAnswer>,
}

/// A step of a change of leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepAnswer {
    /// When it was seen, counted from the end of forwarding; negative before it.
    pub at_ms: i64,
    /// How long ago that was.
    pub age_ms: u64,
    /// Which step.
    pub step: StepKind,
    /// The member that it is about.
    pub member: Option<String>,
    /// The step in words.
    pub text: String,
}

/// Which step of a change of leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// A switchover was requested.
    SwitchoverRequested,
    /// The last byte of a terminated session passed.
    LastByte,
    /// The leader key was deleted.
    LeaderKeyDeleted,
    /// A member took the leader key.
    LeaderKeyTaken,
    /// New sessions began to wait, while the open ones went on.
    NewSessionsWaited,
    /// Forwarding stopped, and the sessions were terminated.
    ForwardingStopped,
    /// A member left recovery.
    LeftRecovery,
    /// Forwarding began again.
    ForwardingStarted,
    /// The first client of the next leader was served.
    FirstClientServed,
}

impl FailoversAnswer {
    /// Those that are remembered, numbered from 1 for the first since the process started.
    pub fn numbered(&self) -> impl Iterator<Item = (u64, &FailoverAnswer)> {
        let forgotten = self.total.saturating_sub(self.failovers.len() as u64);
        (forgotten + 1..).zip(&self.failovers)
    }
}

impl FailoverAnswer {
    /// The next leader, in words.
    pub fn next_leader(&self) -> &str {
        self.to.as_ref().map_or("no leader yet", |to| to.member.as_str())
    }
}
