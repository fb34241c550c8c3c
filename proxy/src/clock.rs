//! The clock: the only place that reads it.

use std::time::Duration;

use pg_leader_proxy_core::Moment;
use rustix::time::{ClockId, clock_gettime};

/// The present moment on `CLOCK_BOOTTIME`, which also counts suspended time.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let since_boot = Duration::try_from(time).unwrap_or_default();
    Moment::from_boot(since_boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_from_a_moment_after_zero() {
        let first = now();
        assert!(first > Moment::default());
        assert!(now() >= first);
    }
}
