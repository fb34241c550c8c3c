//! The one place that reads the wall clock: for times that people and Nomad read, never for a decision.

use std::time::SystemTime;

/// The time now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a time to show; nothing is decided by it")]
pub fn now() -> SystemTime {
    SystemTime::now()
}
