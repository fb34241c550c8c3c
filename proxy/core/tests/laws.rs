//! The laws of the core, each held against thousands of random histories and an oracle that knows nothing of the core.

#![allow(clippy::unwrap_used)]

mod check_law;
mod histories;
mod judged;
mod oracle;
mod script;

#[path = "laws/readers.rs"]
mod readers;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use check_law::{check_law, try_check_law};
use histories::{Outcome, healthy, histories};
use judged::{each, ensure, epoch};
use pg_leader_proxy_core::{
    Admission, Alarm, Basis, Policy, PolicyOptions, ReadRoute, Reason, RouteEpoch, Router, Sources,
    WriteRoute,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use script::{Input, Player, Step, at_ms, parse, play, scenario_text};

#[test]
fn law_1_there_is_one_leader_per_epoch_and_epochs_only_grow() {
    check_law("one leader per epoch", judged::one_leader_per_epoch);
}

#[test]
fn law_2_an_ended_epoch_never_returns() {
    check_law("an ended epoch never returns", judged::ended_epochs_stay_ended);
}

#[test]
fn law_2_another_leader_key_ends_the_epoch_but_in_maintenance_mode() {
    check_law("another leadership is another epoch", |steps, player| {
        let mut revisions = BTreeMap::new();
        each(steps, player, |snapshot, oracle| {
            let Some(epoch) = epoch(&snapshot.routing) else { return Ok(()) };
            let revision = oracle.key().map(|(key, _)| key.create_revision);
            let known = revisions.insert(epoch, revision);
            let may_change = oracle.config().paused || !oracle.asks_the_dcs();
            ensure(may_change || known.is_none_or(|known| known == revision), || {
                format!("epoch {epoch} spans the leaderships {known:?} and {revision:?}")
            })
        })
    });
}

#[test]
fn law_3_nothing_is_forwarded_past_the_horizon_without_the_all_members_rule() {
    check_law("never past the lease", judged::never_past_the_lease);
}

#[test]
fn law_3_the_router_forwards_exactly_when_the_table_allows_it() {
    check_law("exactly the table", judged::exactly_the_table);
}

#[test]
fn law_4_the_same_observations_give_the_same_routing() {
    check_law("determinism", judged::deterministic);
}

#[test]
fn law_4_it_does_not_matter_how_often_time_is_advanced() {
    let moments = vec(0..140_000_u64, 0..40);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(histories(), moments), |(steps, mut extra)| {
        extra.sort_unstable();
        let mut often = Player::new();
        let mut extra = extra.into_iter().map(at_ms).peekable();
        for step in &steps {
            while let Some(moment) = extra.next_if(|moment| *moment <= step.at) {
                often.play(&Step { at: moment, input: Input::Tick });
            }
            often.play(step);
        }
        let seldom = play(&steps);
        prop_assert_eq!(often.router.routing(), seldom.router.routing());
        prop_assert_eq!(often.router.valid_until(), seldom.router.valid_until());
        prop_assert_eq!(often.router.deadline(), seldom.router.deadline());
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn law_5_a_new_router_forwards_nothing_until_it_has_evidence() {
    check_law("a new router forwards nothing", |steps, player| {
        let router = Router::new(Policy::default());
        ensure(router.routing().write == WriteRoute::Hold(Reason::Starting(None)), || {
            "it forwards".to_owned()
        })?;
        ensure(router.routing().read == ReadRoute::Hold(Reason::Starting(None)), || "it serves".to_owned())?;
        each(steps, player, |snapshot, oracle| {
            let knows = oracle.dcs_was_seen() || !oracle.asks_the_dcs();
            let forwards = snapshot.routing.write.leader().is_some();
            ensure(knows || !forwards, || format!("at {} it forwards and knows nothing", snapshot.at))
        })
    });
}

#[test]
fn law_6_after_any_history_a_healthy_cluster_is_served_by_the_same_router() {
    check_law("routing resumes", |steps, player| {
        let end = steps.last().map(|step| step.at).unwrap_or_default();
        for (sources, holder) in
            [(Sources::DcsAndServers, 0), (Sources::DcsAndServers, 1), (Sources::ServersOnly, 2)]
        {
            let mut player = player.clone();
            let options = PolicyOptions { sources, ..PolicyOptions::default() };
            player.play(&Step { at: end, input: Input::Policy(Policy::new(options).unwrap()) });
            for ms in [100, 6100] {
                healthy(end + Duration::from_millis(ms), holder).iter().for_each(|step| player.play(step));
            }
            let leader = player.router.routing().write.leader().cloned();
            let leader = leader.ok_or_else(|| format!("{sources:?}: {:?}", player.router.routing().write))?;
            ensure(*leader.member() == histories::name(holder), || format!("it serves {}", leader.member()))?;
            ensure(*leader.admission() == Admission::Open, || format!("{:?}", leader.admission()))?;
            let servers = player.router.routing().read.servers();
            let readers = servers.iter().filter(|server| server.admission == Admission::Open).count();
            ensure(readers == 2, || format!("the read route has {readers} servers"))?;
        }
        Ok(())
    });
}

#[test]
fn law_7_no_server_that_is_known_not_to_be_the_leader_is_forwarded_to() {
    check_law("never a server known not to lead", judged::never_to_another);
}

#[test]
fn law_8_a_session_of_a_leader_with_a_confirmed_lease_ends_only_by_a_row_of_the_table() {
    check_law("no healthy leader is cut", judged::no_healthy_leader_is_cut);
}

#[test]
fn a_leader_that_is_served_takes_new_sessions_only_where_its_reply_is_fresh() {
    check_law("new sessions go to who answers", |steps, player| {
        each(steps, player, |snapshot, oracle| {
            let leader = snapshot.routing.write.leader();
            let Some(leader) = leader.filter(|leader| *leader.admission() == Admission::Open) else {
                return Ok(());
            };
            let reply = oracle.reply_at(leader.member(), leader.socket());
            let fresh = reply.is_some_and(|(sent, reply)| {
                snapshot.at < sent + oracle.options().max_probe_age && reply.server() == leader.server()
            });
            ensure(fresh, || format!("at {} {} gave no reply", snapshot.at, leader.member()))
        })
    });
}

#[test]
fn the_known_lease_is_that_of_the_present_leadership() {
    check_law("present lease", |steps, player| {
        let margin = player.router.policy().options().lease_margin;
        let told = player.router.evidence().lease().map(|lease| lease.end() - margin);
        let mut horizon = None;
        each(steps, player, |_, oracle| {
            horizon = oracle.horizon();
            Ok(())
        })?;
        ensure(told == horizon, || format!("it is told until {told:?}, and was read until {horizon:?}"))
    });
}

#[test]
fn the_alarm_names_exactly_the_servers_out_of_recovery_when_there_are_two() {
    check_law("two primaries", |steps, player| {
        each(steps, player, |snapshot, oracle| {
            let mut primaries = oracle.settled(&snapshot.routing).primary_names();
            if primaries.len() < 2 {
                primaries.clear();
            }
            let named: Vec<_> =
                snapshot.routing.two_primaries().iter().map(|(name, _)| name.clone()).collect();
            ensure(named == primaries, || format!("it names {named:?} of {primaries:?}"))
        })
    });
}

#[test]
fn another_member_on_a_higher_timeline_than_the_leader_is_an_alarm() {
    check_law("higher timelines", |steps, player| {
        each(steps, player, |snapshot, oracle| {
            let Some(leader) = snapshot.routing.write.leader() else { return Ok(()) };
            let replies = oracle.settled(&snapshot.routing).fresh_replies(oracle.options().max_probe_age);
            let ahead = replies.iter().any(|(_, reply)| reply.timeline() > Some(leader.timeline()));
            let alarmed =
                snapshot.routing.alarms.iter().any(|alarm| matches!(alarm, Alarm::HigherTimeline { .. }));
            ensure(ahead == alarmed, || format!("somebody is ahead: {ahead}, alarm: {alarmed}"))
        })
    });
}

#[test]
fn without_further_observations_forwarding_ends_by_the_deadlines_alone() {
    check_law("deadlines end forwarding", |_, player| {
        let mut player = player.clone();
        let mut now = player.trail.last().map(|end| end.at).unwrap_or_default();
        while let Some(deadline) = player.router.deadline() {
            let trusted = player.router.valid_until();
            ensure(trusted.is_none_or(|trusted| deadline <= trusted || trusted <= now), || {
                format!("it is valid until {trusted:?} and wakes up at {deadline}")
            })?;
            player.advance(deadline);
            now = deadline;
            let later = player.router.valid_until();
            let suspended =
                later.is_some_and(|until| Some(until) == player.router.evidence().clock_stepped());
            ensure(suspended || later.is_none_or(|until| until > deadline), || {
                format!("it forwards past {later:?}")
            })?;
        }
        let forwards = player.router.routing().write.leader().is_some();
        ensure(!forwards, || "it forwards for ever".to_owned())
    });
}

#[test]
fn a_broken_law_leaves_a_scenario_that_breaks_it_again() {
    let never_forwards = |_: &[Step], player: &Player| -> Outcome {
        let forwards = player.trail.iter().any(|snapshot| snapshot.routing.write.leader().is_some());
        ensure(!forwards, || "it forwards".to_owned())
    };
    let (why, path) = try_check_law("a law that does not hold", never_forwards).unwrap_err();
    assert_eq!(why, "it forwards");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# a law that does not hold\n# it forwards\n"), "{text}");
    let steps = parse("saved", &text).unwrap().steps();
    assert_eq!(never_forwards(&steps, &play(&steps)), Err("it forwards".to_owned()));
    assert!(steps.len() < 12, "the history is not the shortest:\n{text}");
}

#[test]
fn every_history_is_read_back_as_it_was_printed() {
    check_law("printing", |steps, _| {
        let again = parse("history", &scenario_text("", steps)).map_err(|error| error.to_string())?.steps();
        ensure(again == steps, || "the printed history is another one".to_owned())
    });
}

#[test]
fn the_random_histories_cover_enough() {
    let mut runner = TestRunner::deterministic();
    let mut shares = [0; 9];
    for _ in 0..500 {
        let steps = histories().new_tree(&mut runner).unwrap().current();
        let trail = play(&steps).trail;
        let routings = || trail.iter().map(|snapshot| &snapshot.routing);
        let leaders = || routings().filter_map(|routing| routing.write.leader());
        let waits = |code: &'static str| {
            leaders().any(|leader| leader.admission().waits().is_some_and(|reason| reason.code() == code))
        };
        let alarm = |code: &'static str| {
            routings().any(|routing| routing.alarms.iter().any(|alarm| alarm.code() == code))
        };
        let last_epoch = routings().filter_map(epoch).max().map_or(0, RouteEpoch::number);
        let seen = [
            last_epoch >= 1,
            last_epoch >= 2,
            leaders().any(|leader| leader.basis() == Basis::AllMembers),
            alarm("two_primaries"),
            routings().any(|routing| matches!(routing.write, WriteRoute::Hold(Reason::LeaseExpiring(_)))),
            waits("leader_probe_failed") || waits("leader_silent"),
            waits("clock_stepped"),
            waits("member_not_probed") || waits("member_silent"),
            alarm("address_moved"),
        ];
        shares.iter_mut().zip(seen).for_each(|(share, seen)| *share += usize::from(seen));
    }
    let least = [400, 200, 50, 100, 30, 40, 30, 5, 20];
    assert!(
        shares.iter().zip(least).all(|(share, least)| *share >= least),
        "{shares:?} of 500, at least {least:?}"
    );
}
