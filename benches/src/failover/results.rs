//! The results of a run, as they are stored in `failover.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
    /// The setups' names, in the order in which they are shown.
    pub(crate) setups: Vec<String>,
    /// The events, in the order in which they happened.
    pub(crate) events: Vec<Event>,
    /// Why events could not be evaluated, if any.
    pub(crate) skipped: Vec<String>,
}

/// The settings of clients and cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Writers of each setup.
    pub(crate) writers: usize,
    /// A writer's pause after an acknowledged write.
    pub(crate) pause_ms: f64,
    /// A writer's pause after an error.
    pub(crate) pause_after_error_ms: f64,
    /// When an attempt of a writer counts as hung.
    pub(crate) writer_timeout_ms: f64,
    /// Between two new clients of a setup.
    pub(crate) new_client_every_ms: f64,
    /// How long a new client may take.
    pub(crate) new_client_timeout_ms: f64,
    /// Patroni's `ttl`, `loop_wait` and `retry_timeout`, in seconds.
    pub(crate) patroni_seconds: [u32; 3],
    /// Settings of the proxy other than the defaults, as `key=value`; for experiments.
    pub(crate) proxy_settings: Vec<String>,
}

/// What happened to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Planned, through Patroni's REST interface.
    Switchover,
    /// SIGKILL to the leader's Patroni and PostgreSQL.
    LeaderCrash,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Switchover, Self::LeaderCrash];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::LeaderCrash => "leader crash",
        }
    }
}

/// One event, and what the clients of every setup saw of it. Times are milliseconds since the event began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Counted from 1.
    pub(crate) number: usize,
    pub(crate) kind: Kind,
    /// The leader before.
    pub(crate) from: String,
    /// The leader after.
    pub(crate) to: String,
    /// When the leader key was seen to be deleted or expired.
    pub(crate) key_deleted_ms: Option<f64>,
    /// When the leader key was seen to be taken.
    pub(crate) key_taken_ms: Option<f64>,
    /// When the new leader first answered "not in recovery".
    pub(crate) left_recovery_ms: f64,
    /// How long before that the query was sent that it last answered with "in recovery".
    pub(crate) left_recovery_uncertainty_ms: f64,
    /// The busy share of all cores in the second around that moment, 0 to 1.
    pub(crate) cpu_busy: f64,
    /// One for each setup.
    pub(crate) results: Vec<SetupResult>,
}

/// What the clients of one setup saw of an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SetupResult {
    pub(crate) setup: String,
    /// Whether its writers' last attempts before the event were acknowledged. If not, there was nothing to interrupt, and
    /// this event does not count for the setup's medians.
    pub(crate) worked_before: bool,
    /// The longest time without an acknowledged write that ended after the event began.
    pub(crate) write_downtime_ms: f64,
    /// Whether that time had not ended when the observation did.
    pub(crate) still_down: bool,
    /// From the moment when the new leader left recovery to its first write that a writer saw acknowledged.
    pub(crate) writers_resumed_ms: Option<f64>,
    /// The same for new clients.
    pub(crate) new_clients_resumed_ms: Option<f64>,
    /// Writes sent to a server in recovery (SQLSTATE 25006), by writers and new clients.
    pub(crate) read_only: usize,
    /// Writes that the former leader acknowledged after the other member had taken the leader key.
    pub(crate) stale_leader_writes: usize,
    /// Writes acknowledged.
    pub(crate) acknowledged: usize,
    /// The writers' errors, by kind.
    pub(crate) errors: BTreeMap<String, usize>,
    /// How many of these errors ended an open session.
    pub(crate) terminated: usize,
    /// How many of these errors were time-outs.
    pub(crate) hung: usize,
    /// New clients that arrived during the observation.
    pub(crate) new_clients: usize,
    /// The errors of those that failed, by kind.
    pub(crate) new_client_errors: BTreeMap<String, usize>,
    /// The longest time from a new client's connect to its acknowledged write.
    pub(crate) new_client_longest_ms: f64,
}

impl SetupResult {
    /// All errors of writers.
    pub(crate) fn errors_total(&self) -> usize {
        self.errors.values().sum()
    }

    /// From the moment when the new leader left recovery to the first write that any client of this setup saw
    /// acknowledged.
    pub(crate) fn resumed_ms(&self) -> Option<f64> {
        let both = self.writers_resumed_ms.into_iter().chain(self.new_clients_resumed_ms);
        both.min_by(f64::total_cmp)
    }

    /// New clients that failed.
    pub(crate) fn new_clients_failed(&self) -> usize {
        self.new_client_errors.values().sum()
    }
}

impl Run {
    /// What the clients of one setup saw of the events of one kind, in order.
    pub(crate) fn results(&self, setup: &str, kind: Kind) -> impl Iterator<Item = &SetupResult> {
        let of_kind = self.events.iter().filter(move |event| event.kind == kind);
        of_kind.flat_map(|event| &event.results).filter(move |result| result.setup == setup)
    }

    /// The number of events of a kind.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }
}
