//! The one place that reads the wall clock: for what people and Nomad read, never for a decision.

use std::time::SystemTime;

/// The present moment on the wall clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a time to show; nothing is decided by it")]
pub fn now() -> SystemTime {
    SystemTime::now()
}
