//! Counters of sessions, by route and by epoch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pg_leader_proxy_core::{Impact, Moment, RouteEpoch};

use crate::route::RouteKind;
use crate::timing::Timing;

/// A session that its server ended this shortly before the end of the epoch counts as terminated with the epoch. When
/// PostgreSQL shuts down or crashes it ends its sessions itself, and the router learns of that a moment later.
const LOST_WITHIN: Duration = Duration::from_secs(5);
/// For how many seconds sessions that their server ended are remembered.
const LOST_SECONDS: usize = 8;
/// How many epochs are remembered: one for each failover report, and the present one.
const EPOCHS_KEPT: usize = 33;

/// A counter, or a gauge if it is also decremented.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Subtracts one.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The present value.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Why a client was rejected: a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionKind {
    /// There was no server within the hold timeout.
    NoServer,
    /// The queue of held clients is full.
    TooManyHeld,
    /// The limit of open sessions is reached.
    TooManySessions,
    /// The first packet is invalid.
    BadPacket,
    /// The first packet did not arrive in time.
    Silent,
    /// The proxy is shutting down.
    Stopping,
}

impl RejectionKind {
    /// All kinds, for metrics with one series for each.
    pub const ALL: [Self; 6] = [
        Self::NoServer,
        Self::TooManyHeld,
        Self::TooManySessions,
        Self::BadPacket,
        Self::Silent,
        Self::Stopping,
    ];

    /// The name in logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoServer => "no_server",
            Self::TooManyHeld => "too_many_held",
            Self::TooManySessions => "too_many_sessions",
            Self::BadPacket => "bad_packet",
            Self::Silent => "silent",
            Self::Stopping => "stopping",
        }
    }
}

/// The counters of one route.
#[derive(Debug)]
pub struct RouteCounters {
    /// Client connections accepted.
    pub accepted: Counter,
    /// Open sessions now, including held clients.
    pub open: Counter,
    /// Held clients now: those that wait for a server.
    pub held: Counter,
    /// Clients that had to wait for a server.
    pub waited: Counter,
    /// Sessions connected to a server.
    pub connected: Counter,
    /// Sessions terminated: by the proxy, or by their server when it stopped being the leader.
    pub terminated: Counter,
    /// Failed attempts to connect to a server.
    pub connect_failures: Counter,
    /// Cancel requests forwarded.
    pub cancels: Counter,
    /// Bytes from clients to servers, added when a session ends.
    pub bytes_to_server: Counter,
    /// Bytes from servers to clients, added when a session ends.
    pub bytes_to_client: Counter,
    /// How long clients waited that had to wait.
    pub held_time: Timing,
    /// How long a server took from the attempt to connect to its first answer.
    pub connect_time: Timing,
    rejections: [Counter; RejectionKind::ALL.len()],
}

impl Default for RouteCounters {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            open: Counter::default(),
            held: Counter::default(),
            waited: Counter::default(),
            connected: Counter::default(),
            terminated: Counter::default(),
            connect_failures: Counter::default(),
            cancels: Counter::default(),
            bytes_to_server: Counter::default(),
            bytes_to_client: Counter::default(),
            held_time: Timing::of_leader_changes(),
            connect_time: Timing::of_connections(),
            rejections: Default::default(),
        }
    }
}

impl RouteCounters {
    /// Clients rejected for `kind`.
    pub const fn rejections(&self, kind: RejectionKind) -> &Counter {
        &self.rejections[kind as usize]
    }
}

/// The counters of one epoch of the write route.
#[derive(Debug, Default)]
pub struct EpochCounters {
    /// Sessions connected to the leader of this epoch.
    pub connected: Counter,
    /// Clients that waited before this epoch and connected in it.
    pub waited: Counter,
    terminated: Counter,
    lost: Mutex<Lost>,
    first_byte_at: AtomicU64,
    last_byte_at: AtomicU64,
}

/// The sessions that their server ended while the client was still there.
#[derive(Debug, Default)]
struct Lost {
    recent: RecentCounts,
    epoch_ended: bool,
}

impl EpochCounters {
    /// Records that a byte from this epoch's leader reached a client. Only the first call counts.
    pub fn record_first_byte(&self, now: Moment) {
        if self.first_byte_at.load(Relaxed) == 0 {
            let _ = self.first_byte_at.compare_exchange(0, nanos(now), Relaxed, Relaxed);
        }
    }

    /// Records a session that the proxy terminated.
    pub fn record_terminated(&self) {
        self.terminated.increment();
    }

    /// Records that the server ended a session whose client was still there. Returns how many sessions that terminates: one
    /// if the epoch has ended. Otherwise [`end`](Self::end) counts it, if it follows soon.
    pub fn record_lost(&self, now: Moment) -> u64 {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.recent.increment(now);
        let terminated = u64::from(lost.epoch_ended);
        self.terminated.add(terminated);
        terminated
    }

    /// Records the end of the epoch. Returns how many sessions that terminates: those that the server ended shortly before.
    pub fn end(&self, now: Moment) -> u64 {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.epoch_ended = true;
        let terminated = lost.recent.since(now - LOST_WITHIN);
        self.terminated.add(terminated);
        terminated
    }

    /// Sessions terminated at the end of the epoch: those that the proxy terminated, and those that the server ended in
    /// the seconds before.
    pub fn terminated(&self) -> u64 {
        self.terminated.value()
    }

    /// Records when a terminated session forwarded its last byte.
    pub fn record_last_byte(&self, at: Moment) {
        self.last_byte_at.fetch_max(nanos(at), Relaxed);
    }

    /// When the first byte from this epoch's leader reached a client.
    pub fn first_byte_at(&self) -> Option<Moment> {
        moment(self.first_byte_at.load(Relaxed))
    }

    /// When the terminated sessions forwarded their last byte.
    pub fn last_byte_at(&self) -> Option<Moment> {
        moment(self.last_byte_at.load(Relaxed))
    }
}

/// A count for each of the last seconds, with the second that it belongs to.
#[derive(Debug, Default)]
struct RecentCounts([(u64, u64); LOST_SECONDS]);

impl RecentCounts {
    fn increment(&mut self, now: Moment) {
        let second = now.since_boot().as_secs();
        let slot = &mut self.0[second as usize % LOST_SECONDS];
        *slot = if slot.0 == second { (second, slot.1 + 1) } else { (second, 1) };
    }

    /// The count since `then`, which must be at most [`LOST_SECONDS`] ago.
    fn since(&self, then: Moment) -> u64 {
        let second = then.since_boot().as_secs();
        self.0.iter().filter(|slot| slot.0 >= second).map(|slot| slot.1).sum()
    }
}

fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.since_boot().as_nanos()).unwrap_or(u64::MAX)
}

fn moment(nanos: u64) -> Option<Moment> {
    (nanos > 0).then(|| Moment::from_boot(Duration::from_nanos(nanos)))
}

/// The reloads of the configuration.
#[derive(Debug, Default)]
pub struct Reloads {
    /// Those that were applied.
    pub applied: Counter,
    /// Those that were refused, because the configuration is wrong or needs a restart.
    pub refused: Counter,
    last_refused: AtomicBool,
    applied_at: AtomicU64,
}

impl Reloads {
    /// Records a reload.
    pub fn record(&self, applied: bool, now: Moment) {
        self.last_refused.store(!applied, Relaxed);
        if applied {
            self.applied.increment();
            self.applied_at.store(nanos(now), Relaxed);
        } else {
            self.refused.increment();
        }
    }

    /// Whether the last reload was refused, so that the configuration in force is not the one that is written.
    pub fn last_was_refused(&self) -> bool {
        self.last_refused.load(Relaxed)
    }

    /// When the last reload was applied.
    pub fn applied_at(&self) -> Option<Moment> {
        moment(self.applied_at.load(Relaxed))
    }
}

/// All counters.
#[derive(Debug)]
pub struct Counters {
    /// The reloads of the configuration.
    pub reloads: Reloads,
    /// How long new sessions waited for a leader at each change of leader.
    pub write_downtime: Timing,
    write: RouteCounters,
    read: RouteCounters,
    epochs: Mutex<VecDeque<(RouteEpoch, Arc<EpochCounters>)>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            reloads: Reloads::default(),
            write_downtime: Timing::of_leader_changes(),
            write: RouteCounters::default(),
            read: RouteCounters::default(),
            epochs: Mutex::default(),
        }
    }
}

impl Counters {
    /// The counters of one route.
    pub const fn route(&self, kind: RouteKind) -> &RouteCounters {
        match kind {
            RouteKind::Write => &self.write,
            RouteKind::Read => &self.read,
        }
    }

    /// Open sessions now, on both routes.
    pub fn open_sessions(&self) -> u64 {
        self.write.open.value() + self.read.open.value()
    }

    /// Adds counters for a new epoch of the write route.
    pub fn begin_epoch(&self, epoch: RouteEpoch) -> Arc<EpochCounters> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if epochs.len() == EPOCHS_KEPT {
            epochs.pop_front();
        }
        let counters = Arc::new(EpochCounters::default());
        epochs.push_back((epoch, Arc::clone(&counters)));
        counters
    }

    /// The counters of an epoch, if it is still remembered.
    pub fn epoch(&self, epoch: RouteEpoch) -> Option<Arc<EpochCounters>> {
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.iter().find(|(known, _)| *known == epoch).map(|(_, counters)| Arc::clone(counters))
    }

    /// The impact of changing from one epoch of the write route to a later one: the sessions terminated since `from`
    /// began, and the clients that waited for the epochs after it, up to `to`. Forgotten epochs count as zero.
    pub fn impact(&self, from: RouteEpoch, to: RouteEpoch) -> Impact {
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = epochs.iter().filter(|(epoch, _)| (from..to).contains(epoch));
        let begun = epochs.iter().filter(|(epoch, _)| from < *epoch && *epoch <= to);
        Impact {
            terminated: ended.map(|(_, counters)| counters.terminated()).sum(),
            held: begun.map(|(_, counters)| counters.waited.value()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn sessions_that_the_server_ended_just_before_count_as_terminated_with_the_epoch() {
        let counters = EpochCounters::default();
        counters.record_terminated();
        [90, 94, 95, 95, 99, 100]
            .into_iter()
            .for_each(|second| assert_eq!(counters.record_lost(at(second)), 0));
        assert_eq!(counters.terminated(), 1, "the epoch has not ended");
        assert_eq!(counters.end(at(100)), 4, "not more than five seconds");
        assert_eq!(counters.terminated(), 1 + 4);
        assert_eq!(counters.record_lost(at(100)), 1);
        assert_eq!(counters.terminated(), 1 + 5, "a worker may record it later");
    }

    #[test]
    fn sessions_that_ended_long_before_do_not_count() {
        let calm = EpochCounters::default();
        calm.record_lost(at(3));
        calm.end(at(3 + LOST_SECONDS as u64));
        assert_eq!(calm.terminated(), 0);
        let young = EpochCounters::default();
        young.end(at(2));
        assert_eq!(young.terminated(), 0, "an empty slot counts as zero");
    }
}
