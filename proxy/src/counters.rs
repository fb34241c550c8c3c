//! Tallies: what was counted of sessions, by route and by epoch, without a lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pg_leader_proxy_core::{Impact, Moment, RouteEpoch};

use crate::route::RouteKind;

/// How long before the end of an epoch a session that its server ended counts as lost with it: PostgreSQL ends its
/// sessions itself when it shuts down or crashes, and the router hears of that a moment later.
const LOST_WITHIN: Duration = Duration::from_secs(5);
/// For how many seconds such ends are remembered.
const LOST_SECONDS: usize = 8;
/// How many epochs are remembered: as many as there are failover reports, and the present one.
const EPOCHS_KEPT: usize = 33;

/// A counter that only grows, or a gauge, depending on its name.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One fewer.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count now.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Why a client was turned away, as the client is told; the label of `proxy_refusals_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionKind {
    /// No server within the hold time.
    NoServer,
    /// As many clients wait as are allowed to.
    TooManyHeld,
    /// As many sessions are open as are allowed to.
    TooManySessions,
    /// The first packet made no sense.
    BadPacket,
    /// The first packet did not come in time.
    Silent,
    /// The proxy is being stopped.
    Stopping,
}

impl RejectionKind {
    /// Every kind, for metrics that name them all.
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

/// What was counted on one route.
#[derive(Debug, Default)]
pub struct RouteCounters {
    /// Client connections accepted.
    pub accepted: Counter,
    /// Sessions open now, held ones included.
    pub open: Counter,
    /// Clients waiting for a server now.
    pub held: Counter,
    /// Clients that had to wait.
    pub waited: Counter,
    /// Sessions connected to a server.
    pub connected: Counter,
    /// Sessions severed.
    pub terminated: Counter,
    /// Attempts to connect to a server that failed.
    pub connect_failures: Counter,
    /// Cancel requests forwarded.
    pub cancels: Counter,
    /// Bytes from clients to servers, counted when a session ends.
    pub bytes_to_server: Counter,
    /// Bytes from servers to clients, counted when a session ends.
    pub bytes_to_client: Counter,
    rejections: [Counter; RejectionKind::ALL.len()],
}

impl RouteCounters {
    /// Clients turned away for `kind`.
    pub const fn rejections(&self, kind: RejectionKind) -> &Counter {
        &self.rejections[kind as usize]
    }
}

/// What happened to the sessions of one epoch of the write route.
#[derive(Debug, Default)]
pub struct EpochCounters {
    /// Sessions connected to the leader of this epoch.
    pub connected: Counter,
    /// Sessions that the proxy severed at its end.
    pub terminated_by_proxy: Counter,
    /// Clients that waited for this epoch to begin.
    pub waited: Counter,
    lost: RecentCounts,
    ended: AtomicU64,
    first_byte_at: AtomicU64,
    last_byte_at: AtomicU64,
}

impl EpochCounters {
    /// The first byte from this epoch's leader reached a client at `now`; later calls change nothing.
    pub fn record_first_byte(&self, now: Moment) {
        if self.first_byte_at.load(Relaxed) == 0 {
            let _ = self.first_byte_at.compare_exchange(0, nanos(now), Relaxed, Relaxed);
        }
    }

    /// The server ended a session at `now` that its client had not left.
    pub fn record_lost(&self, now: Moment) {
        self.lost.increment(now);
    }

    /// The epoch ends at `now`.
    pub fn end(&self, now: Moment) {
        self.ended.store(nanos(now), Relaxed);
    }

    /// Sessions severed at its end: those that the proxy cut, and those that the server itself ended in the seconds
    /// before. A worker may learn of the latter a moment after control has heard why.
    pub fn terminated(&self) -> u64 {
        let lost = moment(self.ended.load(Relaxed)).map_or(0, |end| self.lost.since(end - LOST_WITHIN));
        self.terminated_by_proxy.value() + lost
    }

    /// A severed session had passed its last byte at `at`.
    pub fn record_last_byte(&self, at: Moment) {
        self.last_byte_at.fetch_max(nanos(at), Relaxed);
    }

    /// When the first byte from this epoch's leader reached a client.
    pub fn first_byte_at(&self) -> Option<Moment> {
        moment(self.first_byte_at.load(Relaxed))
    }

    /// When the severed sessions had passed their last byte.
    pub fn last_byte_at(&self) -> Option<Moment> {
        moment(self.last_byte_at.load(Relaxed))
    }
}

/// How many there were in each of the last seconds: the second in the upper half, its count in the lower one.
#[derive(Debug, Default)]
struct RecentCounts([AtomicU64; LOST_SECONDS]);

impl RecentCounts {
    fn increment(&self, now: Moment) {
        let second = second(now);
        let counted = |slot: u64| if slot >> 32 == second { slot + 1 } else { second << 32 | 1 };
        let slot = &self.0[second as usize % LOST_SECONDS];
        // The closure never declines.
        let _ = slot.fetch_update(Relaxed, Relaxed, |slot| Some(counted(slot)));
    }

    /// How many there were since a moment that is no more than these seconds ago.
    fn since(&self, then: Moment) -> u64 {
        let slots = self.0.iter().map(|slot| slot.load(Relaxed));
        slots.filter(|slot| slot >> 32 >= second(then)).map(|slot| slot & u64::from(u32::MAX)).sum()
    }
}

/// The second of a moment, as far as it fits into half a word: for 136 years.
fn second(moment: Moment) -> u64 {
    moment.since_boot().as_secs() & u64::from(u32::MAX)
}

fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.since_boot().as_nanos()).unwrap_or(u64::MAX)
}

fn moment(nanos: u64) -> Option<Moment> {
    (nanos > 0).then(|| Moment::from_boot(Duration::from_nanos(nanos)))
}

/// Everything that was counted.
#[derive(Debug, Default)]
pub struct Counters {
    write: RouteCounters,
    read: RouteCounters,
    epochs: Mutex<VecDeque<(RouteEpoch, Arc<EpochCounters>)>>,
}

impl Counters {
    /// What was counted on one route.
    pub const fn route(&self, kind: RouteKind) -> &RouteCounters {
        match kind {
            RouteKind::Write => &self.write,
            RouteKind::Read => &self.read,
        }
    }

    /// Sessions open now, over both routes.
    pub fn open_sessions(&self) -> u64 {
        self.write.open.value() + self.read.open.value()
    }

    /// Begins to count for an epoch of the write route.
    pub fn begin_epoch(&self, epoch: RouteEpoch) -> Arc<EpochCounters> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if epochs.len() == EPOCHS_KEPT {
            epochs.pop_front();
        }
        let counters = Arc::new(EpochCounters::default());
        epochs.push_back((epoch, Arc::clone(&counters)));
        counters
    }

    /// What was counted for an epoch, if it is still remembered.
    pub fn epoch(&self, epoch: RouteEpoch) -> Option<Arc<EpochCounters>> {
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.iter().find(|(known, _)| *known == epoch).map(|(_, counters)| Arc::clone(counters))
    }

    /// What it cost to come from one epoch of the write route to a later one: the sessions that were severed since
    /// `from` began, and the clients that waited for an epoch since then, up to `to`. Forgotten epochs count nothing.
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
    fn sessions_that_the_server_ended_just_before_are_severed_with_the_epoch() {
        let counters = EpochCounters::default();
        counters.terminated_by_proxy.increment();
        [90, 94, 95, 95, 99, 100].into_iter().for_each(|second| counters.record_lost(at(second)));
        assert_eq!(counters.terminated(), 1, "the epoch has not ended");
        counters.end(at(100));
        assert_eq!(counters.terminated(), 1 + 4, "five seconds and no more");
        counters.record_lost(at(100));
        assert_eq!(counters.terminated(), 1 + 5, "a worker may be late");
    }

    #[test]
    fn sessions_that_ended_long_before_are_not() {
        let calm = EpochCounters::default();
        calm.record_lost(at(3));
        calm.end(at(3 + LOST_SECONDS as u64));
        assert_eq!(calm.terminated(), 0);
        let young = EpochCounters::default();
        young.end(at(2));
        assert_eq!(young.terminated(), 0, "an empty slot is no session");
    }
}
