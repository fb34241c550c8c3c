//! A limit on how often something is logged that may happen many times a second.

use std::time::{Duration, Instant};

/// The shortest time between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// Decides when to log something that repeats, and counts what was not logged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seldom {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Seldom {
    /// Whether to log what happened at `now`: how often it happened since it was logged last.
    pub(crate) fn due(&mut self, now: Instant) -> Option<u64> {
        if self.logged.is_some_and(|logged| now < logged + PAUSE) {
            self.unlogged += 1;
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.unlogged) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_tells_how_often_it_happened() {
        let began = Instant::now();
        let mut seldom = Seldom::default();
        let due: Vec<u64> =
            (0..400).filter_map(|step| seldom.due(began + Duration::from_millis(50) * step)).collect();
        assert_eq!(due, [1, 200]);
    }
}
