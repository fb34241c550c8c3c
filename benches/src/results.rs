//! What a run leaves behind: `failover.json`, from which the tables and the picture are made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Where and when it was.
    pub machine: Machine,
    /// How clients and cluster were set.
    pub settings: Settings,
    /// The contenders' names, in the order in which they are shown.
    pub contenders: Vec<String>,
    /// The events, in the order in which they happened.
    pub events: Vec<Event>,
    /// Events that could not be judged, and why.
    pub skipped: Vec<String>,
}

/// Where and when a run was, and with which programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// When the run began, UTC.
    pub date: String,
    /// The commit of the working tree, with `-dirty` if something was changed.
    pub commit: String,
    /// The processor's name.
    pub processor: String,
    /// How many cores the run had.
    pub cores: usize,
    /// Memory in mebibytes.
    pub memory_mib: u64,
    /// The distribution.
    pub system: String,
    /// The kernel's release.
    pub kernel: String,
    /// Name and version of every program that took part.
    pub programs: BTreeMap<String, String>,
}

/// How clients and cluster were set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Writers of each contender.
    pub writers: usize,
    /// A writer's pause after an acknowledged write.
    pub pause_ms: f64,
    /// A writer's pause after an error.
    pub pause_after_error_ms: f64,
    /// After how long a writer's try counts as hung.
    pub writer_timeout_ms: f64,
    /// Between two latecomers of a contender.
    pub latecomer_every_ms: f64,
    /// How long a latecomer may take.
    pub latecomer_timeout_ms: f64,
    /// Patroni's `ttl`, `loop_wait` and `retry_timeout`, in seconds.
    pub patroni_seconds: [u32; 3],
    /// The proxy's settings that were not left at their defaults, as `key=value`; none in a run that counts.
    pub proxy_settings: Vec<String>,
}

/// What happened to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Planned, through Patroni's REST interface.
    Switchover,
    /// SIGKILL to the leader's Patroni and PostgreSQL.
    Death,
}

/// One event and what the clients of every contender saw of it. Times are milliseconds; those of the cluster count from
/// the event's begin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Counted from 1.
    pub number: usize,
    /// What happened.
    pub kind: Kind,
    /// The leader before.
    pub from: String,
    /// The leader after.
    pub to: String,
    /// When the leader key was seen to go.
    pub key_gone_ms: Option<f64>,
    /// When the leader key was seen to be taken.
    pub key_taken_ms: Option<f64>,
    /// When the new leader first answered "not in recovery".
    pub out_of_recovery_ms: f64,
    /// How long before that its last "in recovery" was asked: the moment lies somewhere in between.
    pub out_of_recovery_uncertain_ms: f64,
    /// The share of all cores that was busy in the second around that moment, 0 to 1.
    pub busy: f64,
    /// One for each contender.
    pub seen: Vec<Seen>,
}

/// What the clients of one contender saw of an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Which one.
    pub contender: String,
    /// Whether its writers' last tries before the event were acknowledged. If not, there was nothing to interrupt, and
    /// gap and resumption are left out of medians and worsts.
    pub worked_before: bool,
    /// The longest time without an acknowledged write that ended after the event began.
    pub gap_ms: f64,
    /// Whether that time still lasted when the watching ended.
    pub gap_open: bool,
    /// From the new leader's leaving recovery to its first write that a writer of this contender saw acknowledged.
    pub writers_resumed_ms: Option<f64>,
    /// The same for latecomers.
    pub latecomers_resumed_ms: Option<f64>,
    /// Writes sent to a server in recovery (SQLSTATE 25006), by writers and latecomers.
    pub read_only: usize,
    /// Writes that the old leader acknowledged after the other had taken the leader key.
    pub strays: usize,
    /// Writes acknowledged.
    pub acknowledged: usize,
    /// The writers' errors, by kind.
    pub errors: BTreeMap<String, usize>,
    /// Those of them that ended an open session.
    pub severed: usize,
    /// Those of them that were neither answer nor error in time.
    pub hung: usize,
    /// NewClients that came while the event was watched.
    pub latecomers: usize,
    /// The errors of those that failed, by kind.
    pub latecomer_errors: BTreeMap<String, usize>,
    /// The longest that a latecomer took to have its write acknowledged.
    pub latecomer_longest_ms: f64,
}

impl Seen {
    /// All errors of writers.
    #[must_use]
    pub fn errors_total(&self) -> usize {
        self.errors.values().sum()
    }

    /// From the new leader's leaving recovery to the first write that any client of this contender saw acknowledged.
    #[must_use]
    pub fn resumed_ms(&self) -> Option<f64> {
        let both = self.writers_resumed_ms.into_iter().chain(self.latecomers_resumed_ms);
        both.min_by(f64::total_cmp)
    }

    /// NewClients that failed.
    #[must_use]
    pub fn latecomers_failed(&self) -> usize {
        self.latecomer_errors.values().sum()
    }
}

impl Run {
    /// What one contender's clients saw of the events of one kind, in order.
    pub fn seen(&self, contender: &str, kind: Kind) -> impl Iterator<Item = &Seen> {
        let of_kind = self.events.iter().filter(move |event| event.kind == kind);
        of_kind.flat_map(|event| &event.seen).filter(move |seen| seen.contender == contender)
    }

    /// How many events of a kind there were.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }
}
