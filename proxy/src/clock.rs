//! The clock: the only place that reads it.

use std::time::Duration;

use pg_leader_proxy_core::Moment;
use rustix::time::{ClockId, clock_gettime};

/// How far the wall clock must move against `CLOCK_BOOTTIME` to count as stepped.
const STEP: Duration = Duration::from_secs(1);

/// The present moment on `CLOCK_BOOTTIME`, which also counts suspended time.
pub fn now() -> Moment {
    Moment::from_boot(read(ClockId::Boottime))
}

fn read(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

/// Both clocks of this machine: `CLOCK_BOOTTIME`, and the wall clock as the time since the Unix epoch.
pub fn of_this_machine() -> (Moment, Duration) {
    (now(), read(ClockId::Realtime))
}

/// Detects steps of the wall clock.
///
/// A hypervisor that pauses a machine stops all of its clocks. The pause shows only when the hypervisor or NTP corrects
/// the wall clock afterwards.
#[derive(Clone, Copy, Debug)]
pub struct StepDetector {
    /// The wall clock less `CLOCK_BOOTTIME`, when they were last compared, in nanoseconds.
    offset: i128,
}

impl StepDetector {
    /// A detector that starts from these readings.
    pub fn new(clocks: (Moment, Duration)) -> Self {
        Self { offset: offset(clocks) }
    }

    /// Whether the wall clock was stepped since the last call. A gradual correction is not a step.
    pub fn stepped(&mut self, clocks: (Moment, Duration)) -> bool {
        let before = std::mem::replace(&mut self.offset, offset(clocks));
        self.offset.abs_diff(before) > STEP.as_nanos()
    }
}

fn offset((moment, wall): (Moment, Duration)) -> i128 {
    let nanos = |time: Duration| i128::try_from(time.as_nanos()).unwrap_or(i128::MAX / 2);
    nanos(wall) - nanos(moment.since_boot())
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

    #[test]
    fn a_step_is_told_from_time_that_passes_and_from_slow_corrections() {
        let at = |boot_ms, wall_ms| {
            (Moment::from_boot(Duration::from_millis(boot_ms)), Duration::from_millis(wall_ms))
        };
        let mut detector = StepDetector::new(at(1000, 50_000));
        assert!(!detector.stepped(at(61_000, 110_000)), "a minute passed, or the machine was suspended");
        assert!(!detector.stepped(at(62_000, 111_900)), "a correction of 0.9 s");
        assert!(!detector.stepped(at(63_000, 113_800)), "and another one");
        assert!(detector.stepped(at(64_000, 124_800)), "forward");
        assert!(!detector.stepped(at(65_000, 125_800)), "once");
        assert!(detector.stepped(at(66_000, 5000)), "and back");
    }

    #[test]
    fn the_clocks_of_this_machine_agree() {
        let mut detector = StepDetector::new(of_this_machine());
        assert!(!detector.stepped(of_this_machine()));
    }
}
