//! Back-off: how long to wait before the next round over the endpoints.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(50);

/// The longest pause between two rounds. A watch session that lasted longer counts as a success.
pub(super) const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that double, with an immediate first retry. Each is shortened at random, so that many proxies spread out.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).clamp(SHORTEST, LONGEST);
        let jitter = RandomState::new().hash_one(pause) % 500;
        pause - pause.mul_f64(f64::from(u32::try_from(jitter).unwrap_or_default()) / 1000.0)
    }

    /// Starts again with an immediate retry.
    pub(super) fn reset(&mut self) {
        self.next = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_is_immediate_and_the_later_ones_are_bounded() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(), Duration::ZERO);
        let second = backoff.pause();
        assert!(second <= SHORTEST && second >= SHORTEST / 2);
        for _ in 0..20 {
            assert!(backoff.pause() <= LONGEST);
        }
        assert!(backoff.pause() >= LONGEST / 2);
        backoff.reset();
        assert_eq!(backoff.pause(), Duration::ZERO);
    }
}
