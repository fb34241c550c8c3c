//! The scenario language: the story of one cluster as lines of text, each a fact at a moment or what is expected then.
//!
//! ```text
//! # What a reader should know before the first line.
//! policy margin=2s on_dcs_loss=all_members
//! 0s    members a b
//! 0s    initialize 7
//! 0s    key a 10 lease 20s
//! 0.1s  probe a primary 1
//!       => forward a, epoch 1
//! ```
//!
//! What a line leaves out has a usual value: a member listens at its own name, port 5432; the cluster is number 7; a
//! probe was sent when it was answered, over the kept connection; every log stands at `0/1000`. `tick` only lets time
//! pass. Before each line the router is advanced at every deadline on the way, as the shell would.

#![allow(dead_code, reason = "each test crate uses a part of the language")]
#![allow(unused_imports, reason = "each test crate uses a part of the language")]

mod play;
mod read;
mod write;

use std::time::Duration;

use pg_leader_proxy_core as core;
use pg_leader_proxy_core::{
    Admission, Lsn, MemberName, Moment, Observation, Policy, ProbeUrgency, ServerAddr, SystemId, Timeline,
};

pub(crate) use play::{Player, Snapshot, play, run};
pub(crate) use read::{ScriptError, parse};
pub(crate) use write::story;

/// A file of the language, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// Each line that means something, with its number in the file.
    pub(crate) lines: Vec<(usize, Line)>,
}

impl Scenario {
    /// What happens, without what is expected.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.lines
            .iter()
            .filter_map(|(_, line)| match line {
                Line::Step(step) => Some(step.clone()),
                Line::Expect(_) => None,
            })
            .collect()
    }
}

/// A line that means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Something happens.
    Step(Step),
    /// Something is expected of the routing as it now stands.
    Expect(Expectation),
}

/// Something that happens at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// When the router is told.
    pub(crate) at: Moment,
    /// What it is told.
    pub(crate) event: Event,
}

/// What the router can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The operator changes the policy.
    Policy(Policy),
    /// A fact arrives.
    Observe(Observation),
    /// Time passes.
    Tick,
}

/// What a scenario expects after the step above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// Writes go to this member.
    Forward { member: MemberName, epoch: u64, timeline: Option<Timeline>, all_members: bool, holds_new: bool },
    /// Writes go nowhere, for the reason with this code.
    Hold(String),
    /// Writes go nowhere, for the reason with this text.
    HoldText(String),
    /// Readers go to these, and nowhere if there are none.
    Read(Vec<(MemberName, Admission)>),
    /// The step changed nothing, nor did the time that passed before it.
    Unchanged,
    /// These members are out of recovery at the same time; none means no alarm.
    Alarm(Vec<(MemberName, Timeline)>),
    /// Whom to ask, and how urgently.
    ProbeUrgency(ProbeUrgency),
    /// Until when the write route may be used without another word.
    ValidUntil(Moment),
    /// The steps of the latest failover report.
    Report(Vec<(Moment, core::FailoverStep)>),
}

/// The system identifier of the cluster of which most scenarios tell.
pub(crate) const DEFAULT_CLUSTER: SystemId = SystemId(7);

/// Where every log stands unless a line says otherwise.
pub(crate) const DEFAULT_LSN: Lsn = Lsn(0x1000);

/// Where a member listens unless a line says otherwise.
pub(crate) fn default_addr(member: &MemberName) -> ServerAddr {
    ServerAddr::new(member.as_str(), 5432)
}

/// A moment so many milliseconds after the beginning.
pub(crate) const fn at_ms(ms: u64) -> Moment {
    Moment::from_boot(Duration::from_millis(ms))
}
