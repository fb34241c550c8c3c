//! The answers in JSON: what the admin address says and `status` reads back.
//!
//! Ages and lengths of time are in milliseconds. Numbers that may pass 2^53 are text, because many readers of JSON
//! would round them.

mod common;
mod evidence;
mod failovers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use pg_leader_proxy_core::{Basis, OnDcsLoss, ReadFallback, Sources};
use serde::{Deserialize, Serialize};

pub use self::common::{AlarmAnswer, PrimaryAnswer, ReasonAnswer};
pub use self::evidence::{
    AskedAs, DcsAnswer, EvidenceAnswer, FailureAnswer, LeaderKeyAnswer, LeaseAnswer, MemberAnswer,
    ProbeAnswer, RoleAnswer,
};
pub use self::failovers::{FailoverAnswer, FailoversAnswer, StepAnswer, StepKind};
use crate::phase::Phase;

/// `/routing`: the decision, why, and everything that it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingAnswer {
    /// The cluster: Patroni's scope.
    pub cluster: String,
    /// The version of the program.
    pub version: String,
    /// `serving` or `draining`.
    pub phase: Phase,
    /// How long the process has run.
    pub uptime_ms: u64,
    /// The addresses that the process listens on, by the block of the configuration that names them.
    pub listening: BTreeMap<String, Vec<SocketAddr>>,
    /// The route for sessions that write.
    pub write: WriteAnswer,
    /// The route for sessions that only read.
    pub read: ReadAnswer,
    /// All members that say they are out of recovery, when there is more than one.
    pub two_primaries: Vec<PrimaryAnswer>,
    /// What an operator should look into.
    pub alarms: Vec<AlarmAnswer>,
    /// How urgently servers are probed.
    pub probe_urgency: ProbeUrgencyAnswer,
    /// What is known.
    pub evidence: EvidenceAnswer,
    /// The policy in force.
    pub policy: PolicyAnswer,
    /// Where an operator wants no new sessions.
    #[serde(default)]
    pub restrictions: RestrictionsAnswer,
    /// What was counted of sessions, by route.
    pub sessions: BTreeMap<String, SessionsAnswer>,
}

/// The route for sessions that write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteAnswer {
    /// Whether new sessions may be forwarded, by the rules as they stand.
    pub decision: WriteDecision,
    /// The leader that sessions go to.
    pub leader: Option<LeaderAnswer>,
    /// Why it holds; or why new sessions wait although open ones go on.
    pub reason: Option<ReasonAnswer>,
    /// How long it may go on forwarding without newer observations.
    pub valid_for_ms: Option<u64>,
}

/// What the write route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteDecision {
    /// Sessions go to the leader.
    Forward,
    /// Clients wait.
    Hold,
}

/// `/leader`: the confirmed leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderAnswer {
    /// The member.
    pub member: String,
    /// Its address, as the cluster publishes it.
    pub address: String,
    /// The socket address that sessions go to.
    pub socket: String,
    /// The timeline that it writes on.
    pub timeline: u32,
    /// The epoch of its sessions: the count of confirmed leaders.
    pub epoch: u64,
    /// The rule that confirmed it.
    pub confirmed_by: ConfirmedBy,
}

/// The rule that confirmed a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmedBy {
    /// It holds the leader key, its lease is valid, and it answers that it is not in recovery.
    Lease,
    /// Every member answers, and it alone is not in recovery.
    AllMembers,
}

impl From<Basis> for ConfirmedBy {
    fn from(basis: Basis) -> Self {
        match basis {
            Basis::Lease => Self::Lease,
            Basis::AllMembers => Self::AllMembers,
        }
    }
}

/// The route for sessions that only read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadAnswer {
    /// Whether there are servers to read from.
    pub decision: ReadDecision,
    /// The servers that sessions may be on.
    pub servers: Vec<ReadServerAnswer>,
    /// Why it holds; or why new sessions wait although open ones go on.
    pub reason: Option<ReasonAnswer>,
}

/// What the read route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadDecision {
    /// Sessions go to the servers of the route.
    Serve,
    /// Clients wait.
    Hold,
}

/// A server that may be read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadServerAnswer {
    /// The member.
    pub member: String,
    /// Its address.
    pub address: String,
    /// The epoch of this server on the read route.
    pub epoch: u64,
    /// Whether it takes new sessions.
    pub new_sessions: bool,
    /// Why it takes none.
    pub reason: Option<ReasonAnswer>,
    /// Whether its sessions are ended as soon as they are idle.
    pub ends_when_idle: bool,
}

/// How urgently servers are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeUrgencyAnswer {
    /// Every `probe.interval`.
    Normal,
    /// Ten times as often.
    Elevated,
    /// One member every `probe.fast_interval`, because clients wait for it.
    Burst,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyAnswer {
    /// What the leader is learned from.
    pub sources: SourcesAnswer,
    /// `policy.on_dcs_loss`.
    pub on_dcs_loss: OnDcsLossAnswer,
    /// `policy.lease_margin`.
    pub lease_margin_ms: u64,
    /// `policy.max_probe_age`.
    pub max_probe_age_ms: u64,
    /// `policy.max_member_probe_age`.
    pub max_member_probe_age_ms: u64,
    /// For how long sessions are kept after a step of the wall clock until something is confirmed.
    pub max_suspension_ms: u64,
    /// `probe.interval`.
    pub probe_interval_ms: u64,
    /// `read.max_lag`.
    pub max_lag_bytes: Option<u64>,
    /// `read.fallback`.
    pub read_fallback: ReadFallbackAnswer,
}

/// Where an operator wants no new sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestrictionsAnswer {
    /// Whether all new sessions wait.
    pub paused: bool,
    /// The members that new sessions of the read route do not go to.
    pub drained: Vec<String>,
}

/// What the leader is learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourcesAnswer {
    /// From etcd and the servers.
    EtcdAndServers,
    /// From the servers alone.
    Servers,
}

impl From<Sources> for SourcesAnswer {
    fn from(sources: Sources) -> Self {
        match sources {
            Sources::DcsAndServers => Self::EtcdAndServers,
            Sources::ServersOnly => Self::Servers,
        }
    }
}

/// What happens once etcd is silent for longer than the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDcsLossAnswer {
    /// What Patroni does, in failsafe mode and otherwise.
    Auto,
    /// Sessions go on while every member answers.
    AllMembers,
    /// Nothing is forwarded.
    Fence,
}

impl From<OnDcsLoss> for OnDcsLossAnswer {
    fn from(choice: OnDcsLoss) -> Self {
        match choice {
            OnDcsLoss::Auto => Self::Auto,
            OnDcsLoss::AllMembers => Self::AllMembers,
            OnDcsLoss::Fence => Self::Fence,
        }
    }
}

/// Where readers go when no replica will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadFallbackAnswer {
    /// They wait.
    Hold,
    /// To the leader.
    Leader,
}

impl From<ReadFallback> for ReadFallbackAnswer {
    fn from(choice: ReadFallback) -> Self {
        match choice {
            ReadFallback::Hold => Self::Hold,
            ReadFallback::Leader => Self::Leader,
        }
    }
}

/// What was counted of the sessions of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsAnswer {
    /// Sessions open now, held ones included.
    pub open: u64,
    /// Clients waiting for a server now.
    pub held: u64,
    /// Client connections accepted.
    pub accepted: u64,
    /// Clients that had to wait.
    pub waited: u64,
    /// Sessions connected to a server.
    pub connected: u64,
    /// Sessions terminated: by the proxy, or by their server when it stopped being the leader.
    pub terminated: u64,
    /// Attempts to connect to a server that failed.
    pub connect_failures: u64,
    /// Cancel requests forwarded.
    pub cancel_requests: u64,
    /// Bytes relayed from clients to servers.
    pub bytes_to_server: u64,
    /// Bytes relayed from servers to clients.
    pub bytes_to_client: u64,
    /// Clients rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
}

impl SessionsAnswer {
    /// Clients rejected, for whatever reason.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// Whole milliseconds.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
