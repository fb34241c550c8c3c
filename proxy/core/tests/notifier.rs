//! Which events are reported for a history, when, and which are left out.

#![allow(clippy::unwrap_used)]

mod check_law;
mod histories;
mod script;

use std::collections::BTreeSet;
use std::time::Duration;

use check_law::check_law;
use pg_leader_proxy_core::{Alarm, Event, Impact, MemberName, Moment, Notifier, RouteEpoch};
use script::{Player, at_ms, parse, play};

/// A healthy cluster of two whose leader has been `a` since 0.5 s.
const HEALTHY: &str = "
    0s    members a b
    0s    initialize 7
    0s    key a 10 lease 1000s
    0.5s  probe a primary 4
    0.5s  probe b replica 4
";

/// The messages reported for a scenario and when, in milliseconds. Every ended epoch terminates twelve sessions, and
/// every event counts seven held clients.
fn reported(text: &str) -> Vec<(u128, String)> {
    reported_with(text, |from, to| Impact { terminated: 12 * (to.number() - from.number().max(1)), held: 7 })
        .into_iter()
        .map(|(at, event)| (at.since_boot().as_millis(), event.to_string()))
        .collect()
}

fn reported_with(text: &str, impact: impl Fn(RouteEpoch, RouteEpoch) -> Impact) -> Vec<(Moment, Event)> {
    let player = play(&parse("notifier", text).unwrap().steps());
    let end = player.trail.last().unwrap().at;
    reported_until(&player, end, impact)
}

/// The events reported for the player's routings until `end`.
fn reported_until(
    player: &Player,
    end: Moment,
    impact: impl Fn(RouteEpoch, RouteEpoch) -> Impact,
) -> Vec<(Moment, Event)> {
    let mut notifier = Notifier::new(at_ms(0));
    let mut reported = Vec::new();
    let mut advance = |notifier: &mut Notifier, now: Moment| {
        let due = notifier.deadline().is_some_and(|deadline| deadline <= now);
        let events = notifier.advance(now, &impact);
        assert!(due || events.is_empty(), "{events:?} came without a deadline");
        assert!(notifier.deadline().is_none_or(|deadline| deadline > now), "the deadline is in the past");
        reported.extend(events.into_iter().map(|event| (now, event)));
    };
    for snapshot in &player.trail {
        while let Some(deadline) = notifier.deadline().filter(|deadline| *deadline < snapshot.at) {
            advance(&mut notifier, deadline);
        }
        notifier.observe(&snapshot.routing, snapshot.at);
        advance(&mut notifier, snapshot.at);
    }
    while let Some(deadline) = notifier.deadline().filter(|deadline| *deadline <= end) {
        advance(&mut notifier, deadline);
    }
    reported
}

/// The messages reported after the healthy cluster's first leader.
fn after_first_leader(text: &str) -> Vec<(u128, String)> {
    let mut events = reported(&format!("{HEALTHY}{text}"));
    assert_eq!(events.remove(0), (500, "leader is a (timeline 4)".to_owned()));
    events
}

/// A reply every two seconds.
fn replies(member: &str, seconds: std::ops::Range<u64>) -> String {
    seconds.step_by(2).map(|second| format!("{second}s probe {member}\n")).collect()
}

fn event_at(at: u128, message: &str) -> (u128, String) {
    (at, message.to_owned())
}

#[test]
fn nothing_is_reported_while_the_leader_stays() {
    assert_eq!(after_first_leader(&replies("a primary 4", 1..200)), []);
}

#[test]
fn a_failover_is_reported_once_after_its_waiting_clients_were_served() {
    let events = after_first_leader(
        "2s     switchover announced
         2s     probe a shutting_down
         2.1s   key vacant
         2.2s   key b 20 lease 1000s
         2.25s  probe b replica 4
         2.31s  probe b primary 5
         4s     probe b primary 5
         5s     probe a replica 5
         6s     tick",
    );
    let message = "leader is now b (timeline 5): 12 sessions terminated, 7 clients held 310 ms; cause: a holds the \
                   leader key but is shutting down";
    assert_eq!(events, [event_at(3310, message)]);
}

#[test]
fn the_downtime_counts_from_when_new_sessions_began_to_wait() {
    let events = after_first_leader(
        "2s     probe a primary 4
         7.5s   tick
         9s     key vacant
         9.2s   key b 20 lease 1000s
         9.5s   probe b primary 5
         12s    tick",
    );
    let message = "leader is now b (timeline 5): 12 sessions terminated, 7 clients held 2.5 s; cause: no member holds \
                   the leader key";
    assert_eq!(events, [event_at(10_500, message)]);
}

#[test]
fn a_long_outage_is_reported_while_it_lasts_and_when_it_ends() {
    let events = after_first_leader(
        "2s     key vacant
         12s    key b 20 lease 1000s
         12.4s  probe b primary 5
         16s    probe b primary 5
         17s    tick",
    );
    let fenced = "no leader for 3 s: no member holds the leader key; clients are held";
    let over = "leader is now b (timeline 5): 12 sessions terminated, 7 clients held, after 10.4 s without a leader; \
                cause: no member holds the leader key";
    assert_eq!(events, [event_at(5000, fenced), event_at(13_400, over)]);
}

#[test]
fn a_fence_is_reported_with_its_present_reason() {
    let events = after_first_leader("2s key vacant\n4s key b 20 lease 1000s\n4s probe b replica 4\n9s tick");
    let fenced = "no leader for 3 s: b holds the leader key but is in recovery; clients are held";
    assert_eq!(events, [event_at(5000, fenced)]);
}

#[test]
fn a_start_without_a_leader_is_reported_and_so_is_its_end() {
    let events =
        reported("0s members a\n0s initialize 7\n7s key a 10 lease 1000s\n7.5s probe a primary 4\n9s tick");
    let fenced = "no leader for 3 s: nothing is known about the cluster yet; clients are held";
    let over = "leader is a (timeline 4): 7 clients held, after 7.5 s without a leader";
    assert_eq!(events, [event_at(3000, fenced), event_at(8500, over)]);
}

#[test]
fn a_resumed_leader_is_reported_only_if_sessions_were_terminated() {
    let restart = format!("{HEALTHY}2s probe a refused\n2.2s probe a primary 4\n4s tick");
    let reported = |impact| -> Vec<String> {
        reported_with(&restart, |_, _| impact).iter().skip(1).map(|(_, event)| event.to_string()).collect()
    };
    assert_eq!(reported(Impact { terminated: 0, held: 9 }), [""; 0]);
    assert_eq!(
        reported(Impact { terminated: 1, held: 9 }),
        [
            "leader is a (timeline 4) again: 1 session terminated, 9 clients held 200 ms; cause: a holds the leader key \
          but refuses connections"
        ]
    );
}

#[test]
fn a_resumed_leader_is_always_reported_after_a_fence() {
    let text = format!("{HEALTHY}2s probe a refused\n6s probe a primary 4\n8s tick");
    let events = reported_with(&text, |_, _| Impact::default());
    let codes: Vec<&str> = events.iter().map(|(_, event)| event.code()).collect();
    assert_eq!(codes, ["leader", "fenced", "resumed"]);
}

#[test]
fn a_flapping_leader_is_reported_once_a_minute_with_complete_counts() {
    let flaps: String =
        (1..=30).map(|n| format!("{}s probe a refused\n{}.5s probe a primary 4\n", 4 * n, 4 * n)).collect();
    let events = after_first_leader(&format!("{flaps}{}", replies("a primary 4", 121..200)));
    let moments: Vec<u128> = events.iter().map(|(at, _)| *at).collect();
    assert_eq!(moments, [5500, 65_500, 125_500]);
    let terminated: Vec<&str> = events.iter().map(|(_, text)| text.split(' ').nth(6).unwrap()).collect();
    assert_eq!(terminated, ["12", "180", "168"], "twelve for each of thirty: {events:?}");
}

#[test]
fn leaders_that_change_faster_than_they_settle_are_still_reported() {
    let flaps: String =
        (10..40).map(|n| format!("{n}s probe a refused\n{n}.4s probe a primary 4\n")).collect();
    let events = after_first_leader(&format!("{}{flaps}", replies("a primary 4", 1..10)));
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].0, 20_400, "at most ten seconds after the first of them");
}

#[test]
fn a_flapping_fence_is_reported_once_a_minute() {
    let spells: String = (1..=12)
        .map(|n| format!("{}s probe a refused\n{}s probe a primary 4\n", 10 * n, 10 * n + 5))
        .collect();
    let text = format!("{}{spells}{}", replies("a primary 4", 1..10), replies("a primary 4", 126..200));
    let events = after_first_leader(&text);
    let fences: Vec<u128> =
        events.iter().filter(|(_, text)| text.starts_with("no leader")).map(|(at, _)| *at).collect();
    assert_eq!(fences, [13_000, 73_000]);
    assert!(events.len() <= 6, "{events:?}");
}

#[test]
fn two_primaries_are_reported_once_and_so_is_their_end() {
    let mut text: String = (2..=20)
        .map(|second| match second {
            9..12 => format!("{second}s probe b refused\n"),
            _ => format!("{second}s probe a primary 4\n{second}s probe b primary 5\n"),
        })
        .collect();
    text.push_str("21s probe b refused\n");
    text.push_str(&replies("a primary 4", 22..80));
    let mut alarms = after_first_leader(&text);
    alarms.retain(|(_, text)| text.contains("primaries"));
    let begin = event_at(2000, "two primaries: a (timeline 4), b (timeline 5)");
    assert_eq!(alarms, [begin, event_at(31_000, "no longer two primaries")]);
}

#[test]
fn an_alarm_is_reported_once_it_has_lasted_and_again_once_it_is_over() {
    let denied_for = |seconds: u64| -> String {
        let what = |second| if second < 2 + seconds { "denied" } else { "replica 4" };
        (2..40).map(|s| format!("{s}s probe a primary 4\n{s}s probe b {}\n", what(s))).collect()
    };
    let over = "over: b rejects the monitoring user";
    assert_eq!(
        after_first_leader(&denied_for(5)),
        [event_at(5000, "b rejects the monitoring user"), event_at(17_000, over)]
    );
    assert_eq!(after_first_leader(&denied_for(2)), []);
}

#[test]
fn an_alarm_that_returns_within_a_minute_is_reported_if_it_lasts_until_then() {
    let both = |seconds: std::ops::Range<u64>| -> String {
        seconds.map(|s| format!("{s}s probe a primary 4\n{s}s probe b primary 5\n")).collect()
    };
    let text = format!(
        "{}5s probe b refused\n{}{}28s probe b refused\n{}{}",
        both(2..5),
        replies("a primary 4", 6..24),
        both(24..28),
        replies("a primary 4", 29..50),
        both(50..70)
    );
    let mut alarms = after_first_leader(&text);
    alarms.retain(|(_, text)| text.contains("primaries"));
    let moments: Vec<u128> = alarms.iter().map(|(at, _)| *at).collect();
    assert_eq!(moments, [2000, 15_000, 62_000], "{alarms:?}");
}

/// After any history and a quiet period: the last report is true, every session was counted exactly once, and repeated
/// events were reported at most once a minute.
#[test]
fn after_any_history_the_last_report_is_true_and_the_counts_are_complete() {
    check_law("the last report is true", |_, player| {
        let Some(last) = player.trail.last() else { return Ok(()) };
        // Every event that follows from the history is due at most two minutes after its end.
        let events = reported_until(player, last.at + Duration::from_secs(120), |from, to| Impact {
            terminated: to.number() - from.number(),
            held: 0,
        });
        let route =
            events.iter().rev().find(|(_, event)| matches!(event, Event::Leader(_) | Event::Fenced(..)));
        let reported = match route {
            Some((_, Event::Leader(leader))) => Some(leader.epoch),
            _ => None,
        };
        let present = last.routing.write.leader().map(|leader| leader.epoch());
        ensure(reported == present, || format!("{present:?} leads and {reported:?} was reported"))?;
        let counted: u64 = events.iter().map(|(_, event)| terminated(event)).sum();
        let epochs = events.iter().filter_map(|(_, event)| epoch(event)).max().unwrap_or_default();
        ensure(counted == epochs.number(), || format!("{counted} of {epochs} epochs were counted"))?;
        alarms_are_true(&last.routing.alarms, &events)?;
        let codes: BTreeSet<&str> = events.iter().map(|(_, event)| event.code()).collect();
        for code in codes.into_iter().filter(|code| *code == "fenced" || Alarm::CODES.contains(code)) {
            let mut moments: Vec<Moment> =
                events.iter().filter(|(_, event)| event.code() == code).map(|(at, _)| *at).collect();
            moments.dedup();
            let apart = moments.windows(2).all(|pair| pair[1].since(pair[0]) >= Duration::from_secs(60));
            ensure(apart, || format!("{code} was reported at {moments:?}"))?;
        }
        Ok(())
    });
}

/// Checks that of each kind of alarm that stands every member was reported since it began, and that the end of the others was.
fn alarms_are_true(standing: &[Alarm], events: &[(Moment, Event)]) -> Result<(), String> {
    for code in Alarm::CODES {
        let mut reported: Option<BTreeSet<MemberName>> = None;
        for (_, event) in events {
            match event {
                Event::Alarm(alarm) if alarm.code() == code => {
                    reported.get_or_insert_default().extend(names(alarm));
                }
                Event::AlarmOver(alarm) if alarm.code() == code => reported = None,
                Event::Alarm(_) | Event::AlarmOver(_) | Event::Leader(_) | Event::Fenced(..) => {}
            }
        }
        let mut stands = standing.iter().filter(|alarm| alarm.code() == code).peekable();
        ensure(stands.peek().is_some() == reported.is_some(), || format!("{code}: {reported:?}"))?;
        let reported = reported.unwrap_or_default();
        let missing = stands.flat_map(names).find(|name| !reported.contains(name));
        ensure(missing.is_none(), || format!("{code} of {missing:?} was not reported"))?;
    }
    Ok(())
}

fn names(alarm: &Alarm) -> Vec<MemberName> {
    if let Alarm::TwoPrimaries(primaries) = alarm {
        primaries.iter().map(|(member, _)| member.clone()).collect()
    } else {
        alarm.member().cloned().into_iter().collect()
    }
}

fn ensure(met: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if met { Ok(()) } else { Err(why()) }
}

fn terminated(event: &Event) -> u64 {
    match event {
        Event::Leader(leader) => leader.impact.terminated,
        Event::Fenced(..) | Event::Alarm(_) | Event::AlarmOver(_) => 0,
    }
}

fn epoch(event: &Event) -> Option<RouteEpoch> {
    match event {
        Event::Leader(leader) => Some(leader.epoch),
        Event::Fenced(..) | Event::Alarm(_) | Event::AlarmOver(_) => None,
    }
}
