//! The answers in JSON: what the admin address says and `status` reads back.
//!
//! Ages and lengths of time are in milliseconds. Numbers that may pass 2^53 are text, because many readers of JSON
//! would round them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `/routing`: the decision, why, and everything that it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingAnswer {
    /// The version of the program.
    pub version: String,
    /// `serving` or `draining`.
    pub phase: String,
    /// How long the process has run.
    pub uptime_ms: u64,
    /// The route for sessions that write.
    pub write: WriteAnswer,
    /// The route for sessions that only read.
    pub read: ReadAnswer,
    /// All members that say they are out of recovery, when there is more than one.
    pub two_primaries: Vec<PrimaryAnswer>,
    /// How urgently servers are asked: `steady`, `watchful` or `burst`.
    pub attention: String,
    /// What is known.
    pub evidence: EvidenceAnswer,
    /// The policy in force.
    pub policy: PolicyAnswer,
    /// What was counted of sessions, by route.
    pub sessions: BTreeMap<String, SessionsAnswer>,
}

/// The route for sessions that write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteAnswer {
    /// `forward` or `hold`.
    pub decision: String,
    /// Whom it forwards to.
    pub leader: Option<LeaderAnswer>,
    /// Why it holds; or why new sessions wait although open ones go on.
    pub reason: Option<ReasonAnswer>,
    /// For how long it may go on forwarding without newer evidence.
    pub trusted_for_ms: Option<u64>,
}

/// `/leader`: the confirmed leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderAnswer {
    /// Who it is.
    pub member: String,
    /// Where it is.
    pub address: String,
    /// The timeline it writes on.
    pub timeline: u32,
    /// The epoch that sessions of this leader belong to.
    pub epoch: u64,
    /// Which rule confirmed it: `lease` or `all_members`.
    pub basis: String,
}

/// Why nothing is forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonAnswer {
    /// The label in metrics.
    pub code: String,
    /// The words that clients are told.
    pub text: String,
}

/// The route for sessions that only read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadAnswer {
    /// `serve` or `hold`.
    pub decision: String,
    /// The servers that sessions may be on.
    pub servers: Vec<ReadServerAnswer>,
    /// Why it holds.
    pub reason: Option<ReasonAnswer>,
}

/// A server that may be read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadServerAnswer {
    /// Who it is.
    pub member: String,
    /// Where it is.
    pub address: String,
    /// The epoch of this server on the read route.
    pub epoch: u64,
    /// Whether it takes new sessions.
    pub admits: bool,
}

/// A member that says it is out of recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryAnswer {
    /// Who it is.
    pub member: String,
    /// The timeline it writes on.
    pub timeline: u32,
}

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceAnswer {
    /// `unseen`, `live` or `silent`.
    pub dcs: String,
    /// For how long the DCS has been silent.
    pub dcs_silent_for_ms: Option<u64>,
    /// The leader key.
    pub leader_key: Option<LeaderKeyAnswer>,
    /// Who holds the leader key, or held it last.
    pub last_holder: Option<String>,
    /// For how long the leader key is known to be absent.
    pub vacant_for_ms: Option<u64>,
    /// The lease of the leader key.
    pub lease: Option<LeaseAnswer>,
    /// Maintenance mode.
    pub paused: bool,
    /// The cluster follows another one.
    pub standby_cluster: bool,
    /// Patroni keeps its primary through an outage of the DCS.
    pub failsafe_mode: bool,
    /// A change of leader has been asked for.
    pub switchover_announced: bool,
    /// The system identifier of the cluster.
    pub initialize: Option<String>,
    /// What is known of each member.
    pub members: Vec<MemberAnswer>,
}

/// The leader key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderKeyAnswer {
    /// Whom it names.
    pub holder: String,
    /// The store's revision at which this leadership began.
    pub create_revision: u64,
    /// How long ago this leadership was first seen.
    pub age_ms: u64,
}

/// The lease of the leader key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseAnswer {
    /// How much is left of it.
    pub remaining_ms: u64,
    /// How long ago the question was sent whose answer says so.
    pub age_ms: u64,
}

/// What is known of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAnswer {
    /// Who it is.
    pub member: String,
    /// Where it is.
    pub address: String,
    /// Whether the write route forwards to it.
    pub leader: bool,
    /// Whether all is as it should be.
    pub healthy: bool,
    /// What it is, in words.
    pub summary: String,
    /// Its tag `noloadbalance`.
    pub no_load_balance: bool,
    /// Its last word, unless something contradicted it since.
    pub word: Option<WordAnswer>,
    /// The last failure to get an answer, unless it answered since.
    pub failure: Option<FailureAnswer>,
    /// The last failure to connect afresh while the kept connection answers.
    pub takes_no_connections: Option<FailureAnswer>,
}

/// What a server said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordAnswer {
    /// `primary` or `replica`.
    pub role: String,
    /// Which cluster it belongs to.
    pub system_id: String,
    /// The timeline it is on.
    pub timeline: Option<u32>,
    /// How far a primary has written.
    pub written: Option<String>,
    /// How far a replica has received the log.
    pub received: Option<String>,
    /// How far a replica has replayed the log.
    pub replayed: Option<String>,
    /// Whether a WAL receiver is running.
    pub streaming: Option<bool>,
    /// How many bytes of log a replica is behind the newest position that anybody reported.
    pub lag_bytes: Option<u64>,
    /// How long ago it was asked.
    pub age_ms: u64,
}

/// Why a server gave no word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureAnswer {
    /// The label in metrics.
    pub code: String,
    /// The failure in words.
    pub text: String,
    /// How long ago it was asked.
    pub age_ms: u64,
}

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyAnswer {
    /// `etcd and servers`, or `servers` alone.
    pub witnesses: String,
    /// `all_members` or `fence`.
    pub on_dcs_loss: String,
    /// How long before the end of a lease it is no longer trusted.
    pub lease_margin_ms: u64,
    /// How old the leader's own word may be.
    pub max_probe_age_ms: u64,
    /// How old any member's word may be under the all-members rule.
    pub max_member_probe_age_ms: u64,
    /// How often each server is asked.
    pub probe_interval_ms: u64,
    /// How many bytes of log a replica of the read route may be behind.
    pub max_lag_bytes: Option<u64>,
    /// `hold` or `leader`.
    pub read_fallback: String,
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
    /// Sessions severed.
    pub severed: u64,
    /// Attempts to connect to a server that failed.
    pub connect_failures: u64,
    /// Cancel requests forwarded.
    pub cancels: u64,
    /// Bytes from clients to servers.
    pub bytes_to_server: u64,
    /// Bytes from servers to clients.
    pub bytes_to_client: u64,
    /// Clients turned away, by reason.
    pub refusals: BTreeMap<String, u64>,
}

/// `/failovers`: the changes of leader, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoversAnswer {
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
    /// How long no client was served: from the last byte passed to the first byte of the next leader, and where no
    /// session tells, from the end of forwarding to its beginning.
    pub gap_ms: Option<u64>,
    /// How many sessions were severed, or ended by the server itself in the seconds before.
    pub severed: u64,
    /// How many clients waited for the next leader.
    pub waited: u64,
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
    /// `announced`, `last_passed`, `key_deleted`, `key_put`, `severed`, `left_recovery`, `routed` or `first_served`.
    pub step: String,
    /// Which member it is about.
    pub member: Option<String>,
    /// The step in words.
    pub text: String,
}
