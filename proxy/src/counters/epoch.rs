//! Counters of one epoch of the write route.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pg_leader_proxy_core::Moment;

use super::{Counter, moment, nanos};

/// A session that its server ended this shortly before the end of the epoch counts as terminated with the epoch. When
/// PostgreSQL shuts down or crashes it ends its sessions itself, and the router learns of that a moment later.
const LOST_WITHIN: Duration = Duration::from_secs(5);
/// For how many seconds sessions that their server ended are remembered.
const LOST_SECONDS: usize = 8;

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
