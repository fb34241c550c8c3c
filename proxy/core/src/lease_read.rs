//! When the lease of the leader key must be read again.

use std::time::Duration;

use crate::evidence::LeaseEvidence;
use crate::moment::{Moment, Stamped};

/// The shortest pause between two reads: a lease that is about to run out is read this often until it has.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// How long to wait before the lease is read again: half of what is left until the router stops trusting it, so that a
/// renewal is seen before that happens; but never longer than `longest`.
///
/// `lease` is the time to live with the moment it was asked for, `None` when there is none to watch; `margin` is
/// [`lease_margin`](crate::PolicyOptions::lease_margin).
pub fn lease_read_pause(
    lease: Option<Stamped<Duration>>,
    margin: Duration,
    now: Moment,
    longest: Duration,
) -> Duration {
    match lease {
        Some(remaining) if now < LeaseEvidence::end_of(remaining) => {
            let left = (LeaseEvidence::end_of(remaining) - margin).since(now);
            (left / 2).max(LEAST_PAUSE).min(longest)
        }
        _ => longest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGIN: Duration = Duration::from_secs(2);
    const LONGEST: Duration = Duration::from_secs(3);

    fn pause(now_ms: u64) -> u128 {
        let lease = Stamped { sent: Moment::default(), fact: Duration::from_secs(20) };
        let now = Moment::from_boot(Duration::from_millis(now_ms));
        lease_read_pause(Some(lease), MARGIN, now, LONGEST).as_millis()
    }

    #[test]
    fn a_lease_is_read_more_often_the_less_of_it_is_left() {
        assert_eq!([pause(0), pause(12_000), pause(14_000), pause(17_000)], [3000, 3000, 2000, 500]);
        assert_eq!([pause(17_900), pause(18_000), pause(19_900)], [100, 100, 100]);
    }

    #[test]
    fn a_lease_that_has_run_out_and_none_at_all_are_read_at_the_usual_interval() {
        assert_eq!(pause(20_000), 3000);
        assert_eq!(lease_read_pause(None, MARGIN, Moment::default(), LONGEST), LONGEST);
    }

    #[test]
    fn a_renewal_in_the_last_quarter_is_seen_before_the_horizon() {
        let (ttl, renewed_at, horizon) = (20_000, 16_500, 20_000 - 2000);
        let mut now = 0;
        while now < renewed_at {
            now += u64::try_from(pause(now)).unwrap_or(ttl);
        }
        assert!(now < horizon, "read at {now} ms");
    }
}
