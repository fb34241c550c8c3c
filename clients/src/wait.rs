//! Waiting for a condition, never longer than a bound.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `condition` until it gives a value.
///
/// # Errors
/// When it gave none within `bound`, or failed itself.
pub fn wait_for<T>(
    what: &str,
    bound: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if started.elapsed() >= bound {
            bail!("{what}: not within {bound:?}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// Between two questions; short beside what is waited for, long beside what a question costs.
const PAUSE: Duration = Duration::from_millis(20);
