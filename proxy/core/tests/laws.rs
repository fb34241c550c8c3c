//! Checks the laws of the core against thousands of random histories and an independent oracle.

#![allow(clippy::unwrap_used)]

mod histories;
mod oracle;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use histories::check_law::{Outcome, check_law, try_check_law};
use histories::{healthy, histories};
use oracle::Oracle;
use pg_leader_proxy_core::{
    Basis, MemberName, Policy, PolicyOptions, ReadRoute, Reason, RouteEpoch, Router, Routing, Sources,
    Timeline, WriteRoute,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use script::{Input, Player, Snapshot, Step, at_ms, parse, play, scenario_text};

#[test]
fn law_1_there_is_one_leader_per_epoch_and_epochs_only_grow() {
    check_law("one leader per epoch", |_, player| {
        let mut leaders: BTreeMap<RouteEpoch, (MemberName, String, Timeline)> = BTreeMap::new();
        for leader in player.trail.iter().filter_map(|snapshot| snapshot.routing.write.leader()) {
            let identity = (leader.member().clone(), leader.addr().to_string(), leader.timeline());
            let newest = leaders.last_key_value().map(|(epoch, _)| *epoch);
            ensure(newest <= Some(leader.epoch()), || format!("epoch {} comes back", leader.epoch()))?;
            let known = leaders.entry(leader.epoch()).or_insert_with(|| identity.clone());
            ensure(*known == identity, || {
                format!("epoch {} has {known:?} and {identity:?}", leader.epoch())
            })?;
        }
        Ok(())
    });
}

#[test]
fn law_2_an_ended_epoch_never_returns() {
    check_law("an ended epoch never returns", |_, player| {
        let mut ended = BTreeSet::new();
        for (before, after) in player.trail.iter().zip(player.trail.iter().skip(1)) {
            let (before, after) = (epoch(&before.routing), epoch(&after.routing));
            ended.extend(before.filter(|_| before != after));
            ensure(!after.is_some_and(|epoch| ended.contains(&epoch)), || format!("{after:?} had ended"))?;
        }
        Ok(())
    });
}

#[test]
fn law_2_a_change_of_member_key_or_timeline_ends_the_epoch() {
    check_law("another leadership is another epoch", |steps, player| {
        let mut revisions = BTreeMap::new();
        for snapshot in &player.trail {
            let Some(epoch) = epoch(&snapshot.routing) else { continue };
            let revision = oracle(steps, snapshot).key().map(|(key, _)| key.create_revision);
            let known = *revisions.entry(epoch).or_insert(revision);
            ensure(known == revision, || {
                format!("epoch {epoch} spans the leaderships {known:?} and {revision:?}")
            })?;
        }
        Ok(())
    });
}

#[test]
fn law_3_nothing_is_forwarded_past_the_lease_without_the_all_members_rule() {
    check_law("never past the lease", |steps, player| {
        for snapshot in &player.trail {
            let Some(leader) = snapshot.routing.write.leader() else { continue };
            let oracle = oracle(steps, snapshot);
            let until = match leader.basis() {
                Basis::Lease => oracle.by_lease(leader.member()).map(|verdict| verdict.until),
                Basis::AllMembers => oracle
                    .by_all_members(None)
                    .filter(|verdict| verdict.member == *leader.member())
                    .map(|verdict| verdict.until),
            };
            let until =
                until.ok_or_else(|| format!("at {} nothing confirms {}", snapshot.at, leader.member()))?;
            ensure(snapshot.at < until, || format!("at {} the proof is over", snapshot.at))?;
            ensure(snapshot.valid_until.is_some_and(|trusted| trusted <= until), || {
                format!("valid until {:?}, but the proof ends at {until}", snapshot.valid_until)
            })?;
        }
        Ok(())
    });
}

#[test]
fn law_3_the_router_forwards_exactly_when_the_rules_allow_it() {
    check_law("exactly the rules", |steps, player| {
        for snapshot in &player.trail {
            let rules = oracle(steps, snapshot).verdict();
            let leader = snapshot.routing.write.leader();
            let said = leader.map(|leader| (leader.member().clone(), leader.basis(), snapshot.valid_until));
            let allowed = rules.map(|verdict| (verdict.member, verdict.basis, Some(verdict.until)));
            ensure(said == allowed, || {
                format!("at {} it is {:?}, the rules say {allowed:?}", snapshot.at, snapshot.routing.write)
            })?;
        }
        Ok(())
    });
}

#[test]
fn law_4_the_same_observations_give_the_same_routing() {
    check_law("determinism", |steps, player| {
        let again = play(steps);
        ensure(again.trail == player.trail, || "the second run differs from the first".to_owned())
    });
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
        ensure(router.routing().write == WriteRoute::Hold(Reason::Starting), || "it forwards".to_owned())?;
        ensure(router.routing().read == ReadRoute::Hold(Reason::Starting), || "it serves".to_owned())?;
        for snapshot in &player.trail {
            let oracle = oracle(steps, snapshot);
            let needs_dcs = oracle.options().sources == Sources::DcsAndServers;
            let knows = !oracle.members().is_empty() && (oracle.dcs_was_seen() || !needs_dcs);
            let forwards = snapshot.routing.write.leader().is_some();
            ensure(knows || !forwards, || format!("at {} it forwards and knows nothing", snapshot.at))?;
        }
        Ok(())
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
            healthy(end + Duration::from_millis(100), holder).iter().for_each(|step| player.play(step));
            let leader = player.router.routing().write.leader().cloned();
            let leader = leader.ok_or_else(|| format!("{sources:?}: {:?}", player.router.routing().write))?;
            ensure(*leader.member() == histories::name(holder), || format!("it serves {}", leader.member()))?;
            ensure(leader.hold_reason().is_none(), || "it takes no new sessions".to_owned())?;
            let readers = player.router.routing().read.servers().len();
            ensure(readers == 3, || format!("the read route has {readers} servers"))?;
        }
        Ok(())
    });
}

#[test]
fn law_7_no_server_that_is_known_not_to_be_the_leader_is_forwarded_to() {
    check_law("never a server known not to lead", |steps, player| {
        for snapshot in &player.trail {
            let Some(leader) = snapshot.routing.write.leader() else { continue };
            let member = leader.member();
            let oracle = oracle(steps, snapshot);
            let (_, reply) =
                oracle.reply(member).ok_or_else(|| format!("{member} was found down, or never probed"))?;
            ensure(reply.timeline() == Some(leader.timeline()), || {
                format!("{member} is on another timeline")
            })?;
            ensure(oracle::is_primary(reply), || format!("{member} reported that it is in recovery"))?;
            let ours = oracle.initialize().is_none_or(|id| id == reply.system_id);
            ensure(ours, || format!("{member} reported another system identifier"))?;
            let live = oracle.options().sources == Sources::DcsAndServers && !oracle.dcs_is_silent();
            let holder = oracle.key().map(|(key, _)| &key.holder);
            ensure(!live || holder.is_none_or(|holder| holder == member), || {
                format!("{holder:?} holds the key, but {member} is forwarded to")
            })?;
            ensure(!live || holder.is_some() || oracle.is_paused(), || "nobody holds the key".to_owned())?;
        }
        Ok(())
    });
}

#[test]
fn no_reader_is_on_a_primary_that_is_not_the_leader() {
    check_law("no reader on another primary", |steps, player| {
        for snapshot in &player.trail {
            let oracle = oracle(steps, snapshot);
            let leader = snapshot.routing.write.leader().map(|leader| leader.member());
            let primaries = oracle.primaries();
            for server in snapshot.routing.read.servers() {
                let stray = primaries.contains(&server.member) && leader != Some(&server.member);
                ensure(!stray, || format!("{} is a primary and not the leader", server.member))?;
                let replied = oracle.reply(&server.member).is_some();
                ensure(replied, || format!("{} was found down, and is read from", server.member))?;
            }
        }
        Ok(())
    });
}

#[test]
fn every_server_of_the_read_route_has_a_moment_until_which_it_may_be_read() {
    check_law("readers have a limit", |steps, player| {
        let Some(end) = player.trail.last() else { return Ok(()) };
        let oracle = oracle(steps, end);
        let leader = end.routing.write.leader().map(|leader| leader.member());
        for server in end.routing.read.servers() {
            let until = player.router.read_valid_until(&server.member);
            let reply = oracle.reply(&server.member).map(|(sent, _)| sent + oracle.options().max_probe_age);
            let limit = if leader == Some(&server.member) { end.valid_until } else { reply };
            ensure(until == limit && until > Some(end.at), || format!("{} until {until:?}", server.member))?;
            ensure(end.deadline <= until, || format!("{} is read past {until:?}", server.member))?;
        }
        Ok(())
    });
}

#[test]
fn a_server_that_left_the_read_route_comes_back_in_another_epoch() {
    check_law("read epochs", |_, player| {
        let (mut present, mut past) = (BTreeMap::new(), BTreeSet::new());
        for snapshot in &player.trail {
            let servers = snapshot.routing.read.servers().iter();
            let next: BTreeMap<_, _> =
                servers.clone().map(|server| (server.epoch, (&server.member, &server.addr))).collect();
            ensure(next.len() == servers.len(), || "two servers share an epoch".to_owned())?;
            for (epoch, server) in &next {
                ensure(!past.contains(epoch), || format!("{server:?} comes back in epoch {epoch}"))?;
                let known = present.get(epoch).unwrap_or(server);
                ensure(known == server, || format!("epoch {epoch} of {known:?} goes to {server:?}"))?;
            }
            past.extend(present.into_keys().filter(|epoch| !next.contains_key(epoch)));
            present = next;
        }
        Ok(())
    });
}

#[test]
fn the_known_lease_is_that_of_the_present_leadership() {
    check_law("present lease", |steps, player| {
        let end = player.trail.last().map(|end| oracle(steps, end));
        let margin = player.router.policy().options().lease_margin;
        let known = player.router.evidence().lease().map(|lease| lease.end() - margin);
        let horizon = end.and_then(|oracle| oracle.horizon());
        ensure(known == horizon, || format!("the router knows {known:?}, and {horizon:?} was read"))
    });
}

#[test]
fn the_alarm_names_exactly_the_members_out_of_recovery_when_there_are_two() {
    check_law("two primaries", |steps, player| {
        for snapshot in &player.trail {
            let mut primaries = oracle(steps, snapshot).primaries();
            if primaries.len() < 2 {
                primaries.clear();
            }
            let named: Vec<_> = snapshot.routing.two_primaries.iter().map(|(name, _)| name.clone()).collect();
            ensure(named == primaries, || format!("it names {named:?} of {primaries:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn without_further_observations_forwarding_ends_by_the_deadlines_alone() {
    check_law("deadlines end forwarding", |_, player| {
        let mut player = player.clone();
        while let Some(deadline) = player.router.deadline() {
            let trusted = player.router.valid_until();
            ensure(trusted.is_none_or(|trusted| deadline <= trusted), || {
                format!("it is valid until {trusted:?} and wakes up at {deadline}")
            })?;
            player.advance(deadline);
            let later = player.router.valid_until();
            ensure(later.is_none_or(|until| until > deadline), || format!("it forwards past {later:?}"))?;
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
    let (mut forwarding, mut evidence, mut failovers, mut alarms, mut outlived) = (0, 0, 0, 0, 0);
    for _ in 0..500 {
        let steps = histories().new_tree(&mut runner).unwrap().current();
        let trail = play(&steps).trail;
        let routings = || trail.iter().map(|snapshot| &snapshot.routing);
        let by_all_members = |routing: &Routing| {
            routing.write.leader().is_some_and(|leader| leader.basis() == Basis::AllMembers)
        };
        let last_epoch = routings().filter_map(epoch).max().map_or(0, RouteEpoch::number);
        forwarding += usize::from(last_epoch >= 1);
        failovers += usize::from(last_epoch >= 2);
        evidence += usize::from(routings().any(by_all_members));
        alarms += usize::from(routings().any(|routing| !routing.two_primaries.is_empty()));
        outlived += usize::from(
            routings().any(|routing| matches!(routing.write, WriteRoute::Hold(Reason::LeaseExpiring(_)))),
        );
    }
    let shares = [forwarding, failovers, evidence, alarms, outlived];
    let least = [400, 200, 100, 100, 50];
    assert!(
        shares.iter().zip(least).all(|(share, least)| *share >= least),
        "{shares:?} of 500, at least {least:?}"
    );
}

fn ensure(met: bool, why: impl FnOnce() -> String) -> Outcome {
    if met { Ok(()) } else { Err(why()) }
}

fn oracle<'a>(steps: &'a [Step], snapshot: &Snapshot) -> Oracle<'a> {
    Oracle { steps: &steps[..snapshot.steps], now: snapshot.at }
}

fn epoch(routing: &Routing) -> Option<RouteEpoch> {
    routing.write.leader().map(|leader| leader.epoch())
}
