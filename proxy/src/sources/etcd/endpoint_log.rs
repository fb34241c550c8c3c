//! What is logged of an endpoint that fails: one warning when it begins, and one again after a long time.

use std::time::Duration;

use tokio::time::Instant;

/// How long an endpoint must fail until that is a warning again.
const REPEAT: Duration = Duration::from_secs(600);
/// How long a session must last until the endpoint counts as one that works, whose next failure is news.
const STABLE: Duration = Duration::from_secs(60);

/// The state of an endpoint, as far as it was logged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EndpointLog {
    warned: Option<Instant>,
}

impl EndpointLog {
    /// Records a session that began at `began` and failed at `now`. Returns whether that is worth a warning.
    pub(super) fn fails(&mut self, began: Option<Instant>, now: Instant) -> bool {
        if began.is_some_and(|began| now - began >= STABLE) {
            self.warned = None;
        }
        let news = self.warned.is_none_or(|warned| now - warned >= REPEAT);
        if news {
            self.warned = Some(now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_endpoint_is_a_warning_once_in_ten_minutes() {
        let (start, mut log) = (Instant::now(), EndpointLog::default());
        let warned = (0..3600).filter(|second| log.fails(None, start + Duration::from_secs(*second)));
        assert_eq!(warned.collect::<Vec<_>>(), [0, 600, 1200, 1800, 2400, 3000]);
    }

    #[test]
    fn one_that_worked_for_a_minute_is_a_warning_when_it_fails() {
        let (start, mut log) = (Instant::now(), EndpointLog::default());
        let at = |second| start + Duration::from_secs(second);
        assert!(log.fails(None, at(0)));
        assert!(!log.fails(Some(at(1)), at(31)), "it comes and goes");
        assert!(log.fails(Some(at(40)), at(100)));
    }
}
