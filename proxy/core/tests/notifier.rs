//! The news of whole stories: what an operator is told, when, and how much is left out.

#![allow(clippy::unwrap_used)]

mod histories;
mod script;

use std::time::Duration;

use histories::judge::hold;
use pg_leader_proxy_core::{Event, Impact, MemberName, Moment, Notifier, RouteEpoch};
use script::{Player, at_ms, parse, play};

/// A healthy cluster of two, led by `a` since half a second.
const HEALTHY: &str = "
    0s    members a b
    0s    initialize 7
    0s    key a 10 lease 1000s
    0.5s  probe a primary 4
    0.5s  probe b replica 4
";

/// What is told of a story, with the milliseconds at which it is, if every change costs twelve sessions and holds up
/// seven clients.
fn told(story: &str) -> Vec<(u128, String)> {
    told_with(story, |from, to| Impact { terminated: 12 * (to.number() - from.number().max(1)), held: 7 })
        .into_iter()
        .map(|(at, news)| (at.since_boot().as_millis(), news.to_string()))
        .collect()
}

fn told_with(story: &str, impact: impl Fn(RouteEpoch, RouteEpoch) -> Impact) -> Vec<(Moment, Event)> {
    let player = play(&parse("herald", story).unwrap().steps());
    let end = player.trail.last().unwrap().at;
    told_of(&player, end, impact)
}

/// What is told while the player's routings come one after the other, and until `end`.
fn told_of(
    player: &Player,
    end: Moment,
    impact: impl Fn(RouteEpoch, RouteEpoch) -> Impact,
) -> Vec<(Moment, Event)> {
    let mut notifier = Notifier::new(at_ms(0));
    let mut told = Vec::new();
    let mut advance = |notifier: &mut Notifier, now: Moment| {
        let due = notifier.deadline().is_some_and(|deadline| deadline <= now);
        let news = notifier.advance(now, &impact);
        assert!(due || news.is_empty(), "{news:?} was not announced by a deadline");
        assert!(notifier.deadline().is_none_or(|deadline| deadline > now), "a deadline stays in the past");
        told.extend(news.into_iter().map(|news| (now, news)));
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
    told
}

/// What is told after the first leader of the healthy cluster was.
fn after_the_first(story: &str) -> Vec<(u128, String)> {
    let mut news = told(&format!("{HEALTHY}{story}"));
    assert_eq!(news.remove(0), (500, "leader is a (timeline 4)".to_owned()));
    news
}

/// `a` answers every two seconds, from the first second to the last.
fn alive(member: &str, seconds: std::ops::Range<u64>) -> String {
    seconds.step_by(2).map(|second| format!("{second}s probe {member}\n")).collect()
}

fn entry(at: u128, message: &str) -> (u128, String) {
    (at, message.to_owned())
}

#[test]
fn nothing_is_told_of_a_leader_that_stays() {
    assert_eq!(after_the_first(&alive("a primary 4", 1..200)), []);
}

#[test]
fn a_failover_is_told_once_when_its_waiters_have_been_served() {
    let news = after_the_first(
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
    assert_eq!(news, [entry(3310, message)]);
}

#[test]
fn a_long_outage_is_told_when_it_is_long_and_when_it_is_over() {
    let news = after_the_first(
        "2s     key vacant
         12s    key b 20 lease 1000s
         12.4s  probe b primary 5
         16s    probe b primary 5
         17s    tick",
    );
    let fenced = "no leader for 3 s: no member holds the leader key; clients are held";
    let over = "leader is now b (timeline 5): 12 sessions terminated, 7 clients held, after 10.4 s without a leader; \
                cause: no member holds the leader key";
    assert_eq!(news, [entry(5000, fenced), entry(13_400, over)]);
}

#[test]
fn the_reason_that_is_told_is_the_one_that_holds_then() {
    let news = after_the_first("2s key vacant\n4s key b 20 lease 1000s\n4s probe b replica 4\n9s tick");
    let fenced = "no leader for 3 s: b holds the leader key but is in recovery; clients are held";
    assert_eq!(news, [entry(5000, fenced)]);
}

#[test]
fn a_start_without_a_leader_is_told_and_so_is_its_end() {
    let news =
        told("0s members a\n0s initialize 7\n7s key a 10 lease 1000s\n7.5s probe a primary 4\n9s tick");
    let fenced = "no leader for 3 s: nothing is known about the cluster yet; clients are held";
    let over = "leader is a (timeline 4): 7 clients held, after 7.5 s without a leader";
    assert_eq!(news, [entry(3000, fenced), entry(8500, over)]);
}

#[test]
fn the_same_leader_again_is_told_only_if_somebody_lost_something() {
    let restart = format!("{HEALTHY}2s probe a refused\n2.2s probe a primary 4\n4s tick");
    let told = |impact| -> Vec<String> {
        told_with(&restart, |_, _| impact).iter().skip(1).map(|(_, news)| news.to_string()).collect()
    };
    assert_eq!(told(Impact { terminated: 0, held: 9 }), [""; 0]);
    assert_eq!(
        told(Impact { terminated: 1, held: 9 }),
        [
            "leader is a (timeline 4) again: 1 session terminated, 9 clients held 200 ms; cause: a holds the leader key \
          but refuses connections"
        ]
    );
}

#[test]
fn the_same_leader_after_a_fence_is_told_in_any_case() {
    let story = format!("{HEALTHY}2s probe a refused\n6s probe a primary 4\n8s tick");
    let news = told_with(&story, |_, _| Impact::default());
    let codes: Vec<&str> = news.iter().map(|(_, news)| news.code()).collect();
    assert_eq!(codes, ["leader", "fenced", "resumed"]);
}

#[test]
fn a_leader_that_flaps_is_told_once_a_minute_and_nothing_is_forgotten() {
    let flaps: String =
        (1..=30).map(|n| format!("{}s probe a refused\n{}.5s probe a primary 4\n", 4 * n, 4 * n)).collect();
    let news = after_the_first(&format!("{flaps}{}", alive("a primary 4", 121..200)));
    let moments: Vec<u128> = news.iter().map(|(at, _)| *at).collect();
    assert_eq!(moments, [5500, 65_500, 125_500]);
    let terminated: Vec<&str> = news.iter().map(|(_, text)| text.split(' ').nth(6).unwrap()).collect();
    assert_eq!(terminated, ["12", "180", "168"], "twelve for each of thirty: {news:?}");
}

#[test]
fn leaders_that_come_and_go_faster_than_their_waiters_are_told_all_the_same() {
    let flaps: String =
        (10..40).map(|n| format!("{n}s probe a refused\n{n}.4s probe a primary 4\n")).collect();
    let news = after_the_first(&format!("{}{flaps}", alive("a primary 4", 1..10)));
    assert_eq!(news.len(), 1, "{news:?}");
    assert_eq!(news[0].0, 20_400, "at the latest ten seconds after the first of them");
}

#[test]
fn a_fence_that_comes_and_goes_is_told_once_a_minute() {
    let spells: String = (1..=12)
        .map(|n| format!("{}s probe a refused\n{}s probe a primary 4\n", 10 * n, 10 * n + 5))
        .collect();
    let story = format!("{}{spells}{}", alive("a primary 4", 1..10), alive("a primary 4", 126..200));
    let news = after_the_first(&story);
    let fences: Vec<u128> =
        news.iter().filter(|(_, text)| text.starts_with("no leader")).map(|(at, _)| *at).collect();
    assert_eq!(fences, [13_000, 73_000]);
    assert!(news.len() <= 6, "{news:?}");
}

#[test]
fn two_primaries_are_told_once_and_so_is_their_end() {
    let mut story: String = (2..=20)
        .map(|second| match second {
            9..12 => format!("{second}s probe b refused\n"),
            _ => format!("{second}s probe a primary 4\n{second}s probe b primary 5\n"),
        })
        .collect();
    story.push_str("21s probe b refused\n");
    story.push_str(&alive("a primary 4", 22..80));
    let mut alarms = after_the_first(&story);
    alarms.retain(|(_, text)| text.contains("primaries"));
    let begin = entry(2000, "two primaries: a (timeline 4), b (timeline 5)");
    assert_eq!(alarms, [begin, entry(31_000, "no longer two primaries")]);
}

#[test]
fn an_alarm_that_comes_back_within_a_minute_is_told_if_it_lasts_until_then() {
    let both = |seconds: std::ops::Range<u64>| -> String {
        seconds.map(|s| format!("{s}s probe a primary 4\n{s}s probe b primary 5\n")).collect()
    };
    let story = format!(
        "{}5s probe b refused\n{}{}28s probe b refused\n{}{}",
        both(2..5),
        alive("a primary 4", 6..24),
        both(24..28),
        alive("a primary 4", 29..50),
        both(50..70)
    );
    let mut alarms = after_the_first(&story);
    alarms.retain(|(_, text)| text.contains("primaries"));
    let moments: Vec<u128> = alarms.iter().map(|(at, _)| *at).collect();
    assert_eq!(moments, [2000, 15_000, 62_000], "{alarms:?}");
}

/// Whatever happened: once it is quiet, the last that was told is true, no session was counted twice or forgotten, and
/// what repeats itself was told no more than once a minute.
#[test]
fn of_any_history_the_last_news_are_true_and_the_counts_complete() {
    hold("the last news are true", |_, player| {
        let Some(last) = player.trail.last() else { return Ok(()) };
        // Only what is told after the story's end depends on it, and nothing of that comes later than two minutes.
        let news = told_of(player, last.at + Duration::from_secs(120), |from, to| Impact {
            terminated: to.number() - from.number(),
            held: 0,
        });
        let route = news.iter().rev().find(|(_, news)| matches!(news, Event::Leader(_) | Event::Fenced(..)));
        let told = match route {
            Some((_, Event::Leader(leader))) => Some(leader.epoch),
            _ => None,
        };
        let admission = last.routing.write.leader().map(|leader| leader.epoch());
        demand(told == admission, || format!("{admission:?} leads and {told:?} was told"))?;
        let counted: u64 = news.iter().map(|(_, news)| terminated(news)).sum();
        let epochs = news.iter().filter_map(|(_, news)| epoch(news)).max().unwrap_or_default();
        demand(counted == epochs.number(), || format!("{counted} of {epochs} epochs were counted"))?;
        let mut alarmed: Vec<MemberName> = Vec::new();
        for (_, news) in &news {
            match news {
                Event::TwoPrimaries(primaries) => {
                    alarmed = primaries.iter().map(|(member, _)| member.clone()).collect();
                }
                Event::TwoPrimariesResolved => alarmed.clear(),
                Event::Leader(_) | Event::Fenced(..) => {}
            }
        }
        let alarm = &last.routing.two_primaries;
        let true_alarm = alarm.is_empty() == alarmed.is_empty()
            && alarm.iter().all(|(member, _)| alarmed.contains(member));
        demand(true_alarm, || format!("{alarm:?} are primaries and {alarmed:?} were told"))?;
        for code in ["fenced", "two_primaries"] {
            let moments: Vec<Moment> =
                news.iter().filter(|(_, news)| news.code() == code).map(|(at, _)| *at).collect();
            let apart = moments.windows(2).all(|pair| pair[1].since(pair[0]) >= Duration::from_secs(60));
            demand(apart, || format!("{code} was told at {moments:?}"))?;
        }
        Ok(())
    });
}

fn demand(met: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if met { Ok(()) } else { Err(why()) }
}

fn terminated(news: &Event) -> u64 {
    match news {
        Event::Leader(leader) => leader.impact.terminated,
        Event::Fenced(..) | Event::TwoPrimaries(_) | Event::TwoPrimariesResolved => 0,
    }
}

fn epoch(news: &Event) -> Option<RouteEpoch> {
    match news {
        Event::Leader(leader) => Some(leader.epoch),
        Event::Fenced(..) | Event::TwoPrimaries(_) | Event::TwoPrimariesResolved => None,
    }
}
