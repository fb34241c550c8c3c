//! A limit on how many lines a second something may log that each client can cause.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many lines there may be in a second.
const LINES: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// Decides when to log something that every client can cause, and counts what was left out.
#[derive(Debug, Default)]
pub struct LineBudget(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    lines: u32,
    unreported: u64,
    left_out: u64,
}

impl LineBudget {
    /// Whether to log what happened at `now`: how many lines were left out since the last one.
    pub(crate) fn due(&self, now: Instant) -> Option<u64> {
        let mut state = self.state();
        if state.began.is_none_or(|began| now >= began + SECOND) {
            state.began = Some(now);
            state.lines = 0;
        }
        if state.lines == LINES {
            state.unreported += 1;
            state.left_out += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.unreported))
    }

    /// How many lines were left out since the start.
    pub fn left_out(&self) -> u64 {
        self.state().left_out
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock cannot leave the state inconsistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_off_and_counted() {
        let (budget, began) = (LineBudget::default(), Instant::now());
        let due = |offset: Duration| budget.due(began + offset);
        assert!((0..LINES).all(|_| due(Duration::ZERO) == Some(0)));
        assert!((0..50).all(|_| due(SECOND / 2).is_none()));
        assert_eq!([due(SECOND), due(SECOND)], [Some(50), Some(0)]);
        assert_eq!(budget.left_out(), 50);
    }
}
