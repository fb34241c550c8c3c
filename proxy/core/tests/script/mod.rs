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
//! What a line leaves out has a usual value: a member is published at its own name, port 5432, and that leads to a socket
//! of its own; it started at a time of its own; the cluster is number 7; a probe was sent when it was answered, over a
//! connection that has been kept for ever; every log stands at `0/1000`. `tick` only lets time pass. Before each line the
//! router is advanced at every deadline on the way, as the shell would.

#![allow(dead_code, reason = "each test crate uses a part of the language")]
#![allow(unused_imports, reason = "each test crate uses a part of the language")]

mod expect;
mod play;
mod read;
mod words;
mod write;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use pg_leader_proxy_core::{
    Lsn, MemberName, Moment, Observation, Policy, Restrictions, ServerAddr, StartTime, SystemId,
};

pub(crate) use expect::Expectation;
pub(crate) use play::{Player, Snapshot, play, run};
pub(crate) use read::{ScriptError, parse};
pub(crate) use write::scenario_text;

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
    pub(crate) input: Input,
}

/// What the router can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The operator changes the policy.
    Policy(Policy),
    /// The operator changes where new sessions are not wanted.
    Restrict(Restrictions),
    /// A fact arrives.
    Observe(Observation),
    /// Time passes.
    Tick,
}

/// The system identifier of the cluster of which most scenarios tell.
pub(crate) const DEFAULT_CLUSTER: SystemId = SystemId(7);

/// Where every log stands unless a line says otherwise.
pub(crate) const DEFAULT_LSN: Lsn = Lsn(0x1000);

/// Where a member is published unless a line says otherwise.
pub(crate) fn default_addr(member: &MemberName) -> ServerAddr {
    ServerAddr::new(member.as_str(), 5432)
}

/// Where an address leads unless a line says otherwise: `a` to 10.0.0.1, `b` to 10.0.0.2.
pub(crate) fn default_socket(addr: &ServerAddr) -> SocketAddr {
    let ip = addr.host().parse().unwrap_or_else(|_| Ipv4Addr::new(10, 0, 0, number_of(addr.host())).into());
    SocketAddr::new(ip, addr.port())
}

/// When the server of a member started unless a line says otherwise: that of `a` at 1, that of `b` at 2.
pub(crate) fn default_start(member: &MemberName) -> StartTime {
    StartTime(i64::from(number_of(member.as_str())))
}

fn number_of(name: &str) -> u8 {
    name.bytes().fold(0, u8::wrapping_add).wrapping_sub(b'a' - 1)
}

fn time(moment: Moment) -> String {
    span(moment.since_boot())
}

/// Seconds, exact, without zeros at the end.
fn span(duration: Duration) -> String {
    let text = format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A moment so many milliseconds after the beginning.
pub(crate) const fn at_ms(ms: u64) -> Moment {
    Moment::from_boot(Duration::from_millis(ms))
}
