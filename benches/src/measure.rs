//! From what the clients of one contender recorded to what is said about it.

use std::time::{Duration, Instant};

use lab::{Downtime, Failure, History, KeyHistory, NewClient, TOLERANCE};

use crate::results::Seen;

/// How long before an event writers must have had no failure to count as served.
const BEFORE: Duration = Duration::from_millis(500);

/// An event as it was seen from outside.
#[derive(Clone, Debug)]
pub struct Outline {
    /// When it began.
    pub began: Instant,
    /// When the new leader was seen out of recovery.
    pub left_recovery: Instant,
    /// The leader before.
    pub from: String,
    /// The leader after.
    pub to: String,
    /// Who held the leader key when.
    pub keys: KeyHistory,
}

/// Milliseconds from one moment to another, negative if the other was earlier.
#[must_use]
pub fn ms_between(from: Instant, to: Instant) -> f64 {
    let after = to.saturating_duration_since(from);
    let before = from.saturating_duration_since(to);
    (after.as_secs_f64() - before.as_secs_f64()) * 1000.0
}

/// What the clients of a contender saw.
#[must_use]
pub fn seen(contender: &str, outline: &Outline, history: &History, arrivals: &[NewClient]) -> Seen {
    let Outline { began, left_recovery, to, keys, .. } = outline;
    let gap = longest_gap(history, *began);
    let mut seen = Seen {
        contender: contender.to_owned(),
        worked_before: worked_before(history, *began),
        gap_ms: gap.length().as_secs_f64() * 1000.0,
        gap_open: gap.until == history.end,
        writers_resumed_ms: history
            .first_by(to, *began)
            .map(|write| ms_between(*left_recovery, write.acknowledged)),
        strays: history.stale_leader_writes(keys, TOLERANCE).len(),
        acknowledged: history.acknowledged.iter().filter(|write| write.acknowledged >= *began).count(),
        ..Seen::default()
    };
    for failed in history.failed.iter().filter(|failed| failed.ended >= *began) {
        *seen.errors.entry(failed.failure.to_string()).or_default() += 1;
        seen.read_only += usize::from(failed.failure == Failure::ReadOnly);
        seen.severed += usize::from(ends_a_session(&failed.failure));
        seen.hung += usize::from(failed.failure == Failure::Hung);
    }
    for arrival in arrivals {
        count_latecomer(&mut seen, outline, arrival);
    }
    seen
}

fn count_latecomer(seen: &mut Seen, outline: &Outline, arrival: &NewClient) {
    let ended = arrival.began + arrival.took;
    if ended < outline.began {
        return;
    }
    seen.latecomers += 1;
    let member = match &arrival.result {
        Err((failure, _)) => {
            *seen.latecomer_errors.entry(failure.to_string()).or_default() += 1;
            seen.read_only += usize::from(*failure == Failure::ReadOnly);
            return;
        }
        Ok(member) => &**member,
    };
    seen.latecomer_longest_ms = seen.latecomer_longest_ms.max(arrival.took.as_secs_f64() * 1000.0);
    if member == outline.to {
        let resumed = ms_between(outline.left_recovery, ended);
        seen.latecomers_resumed_ms =
            Some(seen.latecomers_resumed_ms.map_or(resumed, |first| first.min(resumed)));
    }
    let taken = outline.keys.taken_after(outline.began).map(|event| event.at + TOLERANCE);
    seen.strays += usize::from(member == outline.from && taken.is_some_and(|taken| ended > taken));
}

/// The longest time without an acknowledgement that had not ended when the event began.
fn longest_gap(history: &History, began: Instant) -> Downtime {
    let none = Downtime { from: began, until: began };
    let gaps = history.write_downtimes(Duration::ZERO).into_iter().filter(|gap| gap.until > began);
    gaps.max_by_key(Downtime::length).unwrap_or(none)
}

fn worked_before(history: &History, began: Instant) -> bool {
    let just_before = |at: Instant| at < began && at + BEFORE >= began;
    history.acknowledged.iter().any(|write| just_before(write.acknowledged))
        && !history.failed.iter().any(|failed| just_before(failed.ended))
}

/// 57P01 and 57P02 are how a server, or a proxy, ends a session with words.
fn ends_a_session(failure: &Failure) -> bool {
    match failure {
        Failure::Broken => true,
        Failure::Sqlstate(code) => code == "57P01" || code == "57P02",
        Failure::Refused | Failure::NoSession | Failure::ReadOnly | Failure::Hung => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lab::{Acknowledged, Failed, KeyEvent};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The event begins at 1000 ms, `b` takes the key at 2000 and has left recovery at 2500.
    fn outline(zero: Instant) -> Outline {
        let event = |at, holder: &str, revision| KeyEvent {
            at: zero + MS * at,
            holder: Some(holder.to_owned()),
            create_revision: revision,
            revision,
        };
        Outline {
            began: zero + MS * 1000,
            left_recovery: zero + MS * 2500,
            from: "a".to_owned(),
            to: "b".to_owned(),
            keys: KeyHistory { events: vec![event(0, "a", 1), event(2000, "b", 2)] },
        }
    }

    fn history(zero: Instant, acknowledged: &[(u32, &str)], failed: &[(u32, Failure)], end: u32) -> History {
        let at = |ms: u32| zero + MS * ms;
        let write = |(ms, member): &(u32, &str)| Acknowledged {
            id: 1,
            sent: at(*ms),
            acknowledged: at(*ms),
            member: (*member).into(),
        };
        let failure = |(ms, failure): &(u32, Failure)| Failed {
            id: 1,
            sent: at(*ms),
            ended: at(*ms),
            failure: failure.clone(),
        };
        History {
            begin: zero,
            end: at(end),
            acknowledged: acknowledged.iter().map(write).collect(),
            failed: failed.iter().map(failure).collect(),
            messages: BTreeMap::new(),
            full: false,
        }
    }

    fn arrival(zero: Instant, began: u32, took: u32, result: Result<&str, Failure>) -> NewClient {
        let result = result.map(Into::into).map_err(|failure| (failure, String::new()));
        NewClient { began: zero + MS * began, took: MS * took, result }
    }

    #[test]
    fn a_contender_that_follows_the_leader() {
        let zero = Instant::now();
        let failed = [(1100, Failure::Sqlstate("57P01".to_owned())), (1101, Failure::Broken)];
        let history = history(zero, &[(990, "a"), (1050, "a"), (2505, "b"), (2600, "b")], &failed, 2610);
        let arrivals = [
            arrival(zero, 100, 10, Ok("a")),
            arrival(zero, 1500, 1010, Ok("b")),
            arrival(zero, 1400, 1108, Ok("b")),
        ];
        let seen = seen("x", &outline(zero), &history, &arrivals);
        assert!(seen.worked_before && !seen.gap_open);
        assert_eq!((seen.gap_ms, seen.writers_resumed_ms), (1455.0, Some(5.0)));
        assert_eq!((seen.latecomers, seen.latecomers_resumed_ms), (2, Some(8.0)));
        assert_eq!((seen.errors_total(), seen.severed, seen.latecomers_failed()), (2, 2, 0));
        assert_eq!((seen.read_only, seen.strays, seen.latecomer_longest_ms), (0, 0, 1108.0));
    }

    #[test]
    fn a_contender_that_stays_with_the_old_leader() {
        let zero = Instant::now();
        let failed = [(2600, Failure::ReadOnly), (2700, Failure::ReadOnly)];
        let history = history(zero, &[(990, "a"), (2400, "a")], &failed, 9000);
        let arrivals = [arrival(zero, 2400, 50, Ok("a")), arrival(zero, 2600, 50, Err(Failure::ReadOnly))];
        let seen = seen("x", &outline(zero), &history, &arrivals);
        assert_eq!((seen.writers_resumed_ms, seen.latecomers_resumed_ms), (None, None));
        assert!(seen.gap_open, "nothing was acknowledged to the end");
        assert_eq!((seen.gap_ms, seen.read_only, seen.strays), (6600.0, 3, 2));
        assert_eq!((seen.latecomers, seen.latecomers_failed()), (2, 1));
    }

    #[test]
    fn a_contender_that_failed_before_has_nothing_to_interrupt() {
        let zero = Instant::now();
        let broken = history(zero, &[(400, "a"), (2500, "b")], &[(900, Failure::ReadOnly)], 3000);
        let seen = seen("x", &outline(zero), &broken, &[]);
        assert!(!seen.worked_before);
        assert_eq!(seen.errors_total(), 0, "what was before the event is not its doing");
        assert_eq!(seen.writers_resumed_ms, Some(0.0));
    }

    #[test]
    fn earlier_is_negative() {
        let zero = Instant::now();
        assert_eq!(ms_between(zero + MS * 3, zero), -3.0);
    }
}
