//! The scenario language: one line per input to the router, or per expectation of its routing.
//!
//! ```text
//! # What the scenario shows.
//! policy margin=2s on_dcs_loss=all_members
//! 0s    members a b
//! 0s    initialize 7
//! 0s    key a 10 lease 20s
//! 0.1s  probe a primary 1
//!       => forward a, epoch 1
//! ```
//!
//! What a line leaves out has a default: a member's address is its own name and port 5432; the system identifier is 7; a
//! probe was sent when its reply arrived, over the persistent connection; every LSN is `0/1000`. `tick` only lets time
//! pass. Before each line the router is advanced at every deadline in between, as control would do.

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
pub(crate) use write::scenario_text;

/// A scenario file, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// Each line that is not a comment, with its number in the file.
    pub(crate) lines: Vec<(usize, Line)>,
}

impl Scenario {
    /// The steps, without the expectations.
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

/// A line that is not a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// An input to the router.
    Step(Step),
    /// An expectation of the present routing.
    Expect(Expectation),
}

/// An input and its moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// When the router gets the input.
    pub(crate) at: Moment,
    /// The input.
    pub(crate) input: Input,
}

/// An input to the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The operator changes the policy.
    Policy(Policy),
    /// An observation arrives.
    Observe(Observation),
    /// Time passes.
    Tick,
}

/// What a scenario expects after the step above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// Writes go to this member.
    Forward { member: MemberName, epoch: u64, timeline: Option<Timeline>, all_members: bool, holds_new: bool },
    /// Writes are held, for the reason with this code.
    Hold(String),
    /// Writes are held, for the reason with this text.
    HoldText(String),
    /// Readers go to these members; nowhere if there are none.
    Read(Vec<(MemberName, Admission)>),
    /// Neither the step nor the time before it changed the routing.
    Unchanged,
    /// These members are out of recovery at the same time; empty means no alarm.
    Alarm(Vec<(MemberName, Timeline)>),
    /// How often to probe the servers.
    ProbeUrgency(ProbeUrgency),
    /// Until when the write route may forward without newer evidence.
    ValidUntil(Moment),
    /// The steps of the latest failover report.
    Report(Vec<(Moment, core::FailoverStep)>),
}

/// The system identifier of the cluster, unless a line says otherwise.
pub(crate) const DEFAULT_CLUSTER: SystemId = SystemId(7);

/// Every LSN, unless a line says otherwise.
pub(crate) const DEFAULT_LSN: Lsn = Lsn(0x1000);

/// A member's address, unless a line says otherwise.
pub(crate) fn default_addr(member: &MemberName) -> ServerAddr {
    ServerAddr::new(member.as_str(), 5432)
}

/// The moment this many milliseconds after the clock's zero.
pub(crate) const fn at_ms(ms: u64) -> Moment {
    Moment::from_boot(Duration::from_millis(ms))
}
