//! Waiting on a thread until something works, within a bound.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Between two attempts: short compared with what is waited for.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

/// Repeats an attempt until it succeeds, and returns its value.
///
/// # Errors
/// The last error, when no attempt has succeeded `within` that time.
pub fn retry<T>(what: &str, within: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match attempt() {
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("waited {within:?} for {what}")));
            }
            Err(_) => sleep(PAUSE),
            done => return done,
        }
    }
}
