//! What is known of the cluster and of each member.

use serde::{Deserialize, Serialize};

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceAnswer {
    /// Whether the DCS answers.
    pub dcs: DcsAnswer,
    /// How long the DCS has been silent.
    pub dcs_silent_for_ms: Option<u64>,
    /// The leader key.
    pub leader_key: Option<LeaderKeyAnswer>,
    /// The member that holds the leader key, or held it last.
    pub last_leader: Option<String>,
    /// How long the leader key is known to be absent.
    pub leader_key_absent_for_ms: Option<u64>,
    /// The lease of the leader key.
    pub lease: Option<LeaseAnswer>,
    /// Maintenance mode.
    pub paused: bool,
    /// The cluster follows another one.
    pub standby_cluster: bool,
    /// Patroni keeps its primary through an outage of the DCS.
    pub failsafe_mode: bool,
    /// A switchover was requested.
    pub switchover_requested: bool,
    /// The system identifier of the cluster.
    pub system_identifier: Option<String>,
    /// What is known of each member.
    pub members: Vec<MemberAnswer>,
}

/// Whether the DCS answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DcsAnswer {
    /// It has never answered.
    Unseen,
    /// It gives linearizable answers.
    Live,
    /// It does not, any more.
    Silent,
}

/// The leader key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderKeyAnswer {
    /// The member that it names.
    pub holder: String,
    /// The store's revision at which this leadership began.
    pub create_revision: u64,
    /// How long ago this leadership was first seen.
    pub age_ms: u64,
}

/// The lease of the leader key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseAnswer {
    /// How long it is valid when it was just renewed: Patroni's `ttl`.
    #[serde(default)]
    pub ttl_ms: u64,
    /// How long it is still valid.
    pub valid_for_ms: u64,
    /// How long ago the question was sent whose answer says so.
    pub age_ms: u64,
}

/// What is known of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAnswer {
    /// The member.
    pub member: String,
    /// Its address, as the cluster publishes it.
    pub address: String,
    /// The socket address that it resolves to, once it is known.
    pub socket: Option<String>,
    /// A socket address that it resolved to before, and that sessions still use.
    pub former_socket: Option<String>,
    /// Why it is probed.
    pub asked_as: AskedAs,
    /// Whether the write route forwards to it.
    pub leader: bool,
    /// Whether all is as it should be.
    pub healthy: bool,
    /// Its state in a few words.
    pub summary: String,
    /// Its tag `noloadbalance`.
    pub no_load_balance: bool,
    /// Its last answer to a probe, unless something contradicted it since.
    pub last_probe: Option<ProbeAnswer>,
    /// The last probe that failed, unless it answered since.
    pub probe_failure: Option<FailureAnswer>,
    /// The last new connection that failed, unless one was made since.
    pub connect_failure: Option<FailureAnswer>,
}

/// Why a member is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedAs {
    /// The cluster lists it.
    Listed,
    /// The cluster does not list it any more. It is probed for an hour after it was last listed or last said that it is
    /// a primary.
    Departed,
}

/// What a server answered to a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeAnswer {
    /// Whether it is in recovery.
    pub role: RoleAnswer,
    /// The system identifier of its cluster.
    pub system_identifier: String,
    /// The timeline that it is on.
    pub timeline: Option<u32>,
    /// How far a primary has written.
    pub written_lsn: Option<String>,
    /// How far a replica has received the log.
    pub received_lsn: Option<String>,
    /// How far a replica has replayed the log.
    pub replayed_lsn: Option<String>,
    /// Whether a WAL receiver is running.
    pub streaming: Option<bool>,
    /// How many bytes of WAL a replica is behind the newest position that a member reported.
    pub lag_bytes: Option<u64>,
    /// How long ago the question was sent.
    pub age_ms: u64,
}

/// Whether a server is in recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleAnswer {
    /// It is not.
    Primary,
    /// It is.
    Replica,
}

/// Why a probe or a connection failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureAnswer {
    /// The label in metrics.
    pub code: String,
    /// The failure in words.
    pub text: String,
    /// How long ago the attempt began.
    pub age_ms: u64,
}
