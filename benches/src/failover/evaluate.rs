//! From what the clients of one setup recorded to its results.

use std::time::{Duration, Instant};

use lab::{Downtime, Failure, History, KeyHistory, NewClient, TOLERANCE};

use super::results::SetupResult;

/// How long before an event the writers must have been without a failure.
const BEFORE: Duration = Duration::from_millis(500);

/// The moments of an event.
#[derive(Clone, Debug)]
pub(crate) struct EventTimes {
    pub(crate) began: Instant,
    /// When the new leader was seen to have left recovery.
    pub(crate) left_recovery: Instant,
    /// The leader before.
    pub(crate) from: String,
    /// The leader after.
    pub(crate) to: String,
    /// Who held the leader key when.
    pub(crate) keys: KeyHistory,
}

/// Milliseconds between two moments, negative if the second was earlier.
pub(crate) fn ms_between(from: Instant, to: Instant) -> f64 {
    let after = to.saturating_duration_since(from);
    let before = from.saturating_duration_since(to);
    (after.as_secs_f64() - before.as_secs_f64()) * 1000.0
}

/// What the clients of a setup saw of an event.
pub(crate) fn evaluate(
    setup: &str,
    times: &EventTimes,
    history: &History,
    new_clients: &[NewClient],
) -> SetupResult {
    let EventTimes { began, left_recovery, to, keys, .. } = times;
    let downtime = longest_downtime(history, *began);
    let mut result = SetupResult {
        setup: setup.to_owned(),
        worked_before: worked_before(history, *began),
        write_downtime_ms: downtime.length().as_secs_f64() * 1000.0,
        still_down: downtime.until == history.end,
        writers_resumed_ms: history
            .first_by(to, *began)
            .map(|write| ms_between(*left_recovery, write.acknowledged)),
        stale_leader_writes: history.stale_leader_writes(keys, TOLERANCE).len(),
        acknowledged: history.acknowledged.iter().filter(|write| write.acknowledged >= *began).count(),
        ..SetupResult::default()
    };
    for failed in history.failed.iter().filter(|failed| failed.ended >= *began) {
        *result.errors.entry(failed.failure.to_string()).or_default() += 1;
        result.read_only += usize::from(failed.failure == Failure::ReadOnly);
        result.terminated += usize::from(ends_a_session(&failed.failure));
        result.hung += usize::from(failed.failure == Failure::Hung);
    }
    for client in new_clients {
        add_new_client(&mut result, times, client);
    }
    result
}

fn add_new_client(result: &mut SetupResult, times: &EventTimes, client: &NewClient) {
    let ended = client.began + client.took;
    if ended < times.began {
        return;
    }
    result.new_clients += 1;
    let member = match &client.result {
        Err((failure, _)) => {
            *result.new_client_errors.entry(failure.to_string()).or_default() += 1;
            result.read_only += usize::from(*failure == Failure::ReadOnly);
            return;
        }
        Ok(member) => &**member,
    };
    let took = client.took.as_secs_f64() * 1000.0;
    result.new_client_longest_ms = result.new_client_longest_ms.max(took);
    if member == times.to {
        let resumed = ms_between(times.left_recovery, ended);
        result.new_clients_resumed_ms =
            Some(result.new_clients_resumed_ms.map_or(resumed, |first| first.min(resumed)));
    }
    let taken = times.keys.taken_after(times.began).map(|event| event.at + TOLERANCE);
    result.stale_leader_writes +=
        usize::from(member == times.from && taken.is_some_and(|taken| ended > taken));
}

/// The longest downtime that had not ended when the event began.
fn longest_downtime(history: &History, began: Instant) -> Downtime {
    let none = Downtime { from: began, until: began };
    let downtimes = history.write_downtimes(Duration::ZERO);
    downtimes.into_iter().filter(|time| time.until > began).max_by_key(Downtime::length).unwrap_or(none)
}

fn worked_before(history: &History, began: Instant) -> bool {
    let just_before = |at: Instant| at < began && at + BEFORE >= began;
    history.acknowledged.iter().any(|write| just_before(write.acknowledged))
        && !history.failed.iter().any(|failed| just_before(failed.ended))
}

/// A server or a proxy that ends a session with an error uses 57P01 or 57P02.
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

    /// The event begins at 1000 ms, `b` takes the key at 2000 and leaves recovery at 2500.
    fn times(zero: Instant) -> EventTimes {
        let event = |at, holder: &str, revision| KeyEvent {
            at: zero + MS * at,
            holder: Some(holder.to_owned()),
            create_revision: revision,
            revision,
        };
        EventTimes {
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

    fn client(zero: Instant, began: u32, took: u32, result: Result<&str, Failure>) -> NewClient {
        let result = result.map(Into::into).map_err(|failure| (failure, String::new()));
        NewClient { began: zero + MS * began, took: MS * took, result }
    }

    #[test]
    fn a_setup_that_follows_the_leader() {
        let zero = Instant::now();
        let failed = [(1100, Failure::Sqlstate("57P01".to_owned())), (1101, Failure::Broken)];
        let history = history(zero, &[(990, "a"), (1050, "a"), (2505, "b"), (2600, "b")], &failed, 2610);
        let clients = [
            client(zero, 100, 10, Ok("a")),
            client(zero, 1500, 1010, Ok("b")),
            client(zero, 1400, 1108, Ok("b")),
        ];
        let result = evaluate("x", &times(zero), &history, &clients);
        assert!(result.worked_before && !result.still_down);
        assert_eq!((result.write_downtime_ms, result.writers_resumed_ms), (1455.0, Some(5.0)));
        assert_eq!((result.new_clients, result.new_clients_resumed_ms), (2, Some(8.0)));
        assert_eq!((result.errors_total(), result.terminated, result.new_clients_failed()), (2, 2, 0));
        assert_eq!((result.read_only, result.stale_leader_writes), (0, 0));
        assert_eq!(result.new_client_longest_ms, 1108.0);
    }

    #[test]
    fn a_setup_that_stays_with_the_former_leader() {
        let zero = Instant::now();
        let failed = [(2600, Failure::ReadOnly), (2700, Failure::ReadOnly)];
        let history = history(zero, &[(990, "a"), (2400, "a")], &failed, 9000);
        let clients = [client(zero, 2400, 50, Ok("a")), client(zero, 2600, 50, Err(Failure::ReadOnly))];
        let result = evaluate("x", &times(zero), &history, &clients);
        assert_eq!((result.writers_resumed_ms, result.new_clients_resumed_ms), (None, None));
        assert!(result.still_down, "nothing was acknowledged until the end");
        assert_eq!(result.write_downtime_ms, 6600.0);
        assert_eq!((result.read_only, result.stale_leader_writes), (3, 2));
        assert_eq!((result.new_clients, result.new_clients_failed()), (2, 1));
    }

    #[test]
    fn a_setup_that_failed_before_has_nothing_to_interrupt() {
        let zero = Instant::now();
        let broken = history(zero, &[(400, "a"), (2500, "b")], &[(900, Failure::ReadOnly)], 3000);
        let result = evaluate("x", &times(zero), &broken, &[]);
        assert!(!result.worked_before);
        assert_eq!(result.errors_total(), 0, "errors before the event do not count");
        assert_eq!(result.writers_resumed_ms, Some(0.0));
    }

    #[test]
    fn an_earlier_moment_is_negative() {
        let zero = Instant::now();
        assert_eq!(ms_between(zero + MS * 3, zero), -3.0);
    }
}
