//! Failover reports: the steps of a change of leader, in order.

#![allow(clippy::unwrap_used)]

mod script;

use std::time::Duration;

use pg_leader_proxy_core::{FailoverReport, FailoverStep, MemberName, Timeline};
use script::{Player, at_ms, parse, play};

/// A healthy cluster of two whose leader is `a`.
const HEALTHY: &str = "
    0s    members a b
    0s    initialize 7
    0s    key a 10 lease 30s
    0.5s  probe a primary 1
    0.5s  probe b replica 1
";

#[test]
fn a_leader_that_stays_leaves_no_report() {
    let failover_log =
        reported("1s key a 10 lease 30s\n2s probe a primary 1\n3s probe b timed_out").failover_log;
    assert_eq!(failover_log.reports().count(), 0);
}

#[test]
fn a_switchover_is_reported_from_its_announcement_to_the_new_leader() {
    let report = only_report(
        "1s    switchover announced
         2s    probe a shutting_down
         2.2s  key vacant
         2.3s  key b 20 lease 30s
         2.4s  probe b replica 1
         2.5s  probe b primary 2",
    );
    let steps = vec![
        (at_ms(1000), FailoverStep::Announced),
        (at_ms(2000), FailoverStep::Terminated),
        (at_ms(2200), FailoverStep::KeyDeleted),
        (at_ms(2300), FailoverStep::KeyPut(b())),
        (at_ms(2500), FailoverStep::LeftRecovery(b())),
        (at_ms(2500), FailoverStep::Routed(b())),
    ];
    assert_eq!(report.steps, steps);
    assert_eq!((report.from, report.from_epoch.number()), ((a(), Timeline(1)), 1));
    assert_eq!(report.to, Some((b(), Timeline(2))));
    assert_eq!(report.to_epoch.map(|epoch| epoch.number()), Some(2));
    assert_eq!(report.cause.to_string(), "a holds the leader key but is shutting down");
}

#[test]
fn the_death_of_a_leader_is_reported_from_the_loss_of_its_key_to_its_successor() {
    let report = only_report(
        "2s    probe a timed_out
         25s   key vacant
         25.1s key b 20 lease 30s
         26s   probe b primary 2",
    );
    let steps = vec![
        (at_ms(5_500), FailoverStep::Waiting),
        (at_ms(25_000), FailoverStep::KeyDeleted),
        (at_ms(25_000), FailoverStep::Terminated),
        (at_ms(25_100), FailoverStep::KeyPut(b())),
        (at_ms(26_000), FailoverStep::LeftRecovery(b())),
        (at_ms(26_000), FailoverStep::Routed(b())),
    ];
    assert_eq!(report.steps, steps);
    assert_eq!((report.terminated(), report.routed()), (Some(at_ms(25_000)), Some(at_ms(26_000))));
    assert_eq!(report.cause.code(), "no_leader");
}

#[test]
fn the_downtime_counts_from_when_new_sessions_began_to_wait() {
    let report = only_report(
        "2s    probe a primary 1
         7.5s  tick
         25s   key vacant
         25.1s key b 20 lease 30s
         26s   probe b primary 2",
    );
    let steps: Vec<_> = report.steps.iter().map(|(at, step)| (*at, step.clone())).collect();
    assert_eq!(
        steps,
        [
            (at_ms(7_000), FailoverStep::Waiting),
            (at_ms(25_000), FailoverStep::KeyDeleted),
            (at_ms(25_000), FailoverStep::Terminated),
            (at_ms(25_100), FailoverStep::KeyPut(b())),
            (at_ms(26_000), FailoverStep::LeftRecovery(b())),
            (at_ms(26_000), FailoverStep::Routed(b())),
        ]
    );
    assert_eq!(report.downtime(), Some(Duration::from_secs(19)));
}

#[test]
fn a_wait_that_ended_before_the_change_does_not_count() {
    let report = only_report(
        "2s    probe a primary 1
         7.5s  tick
         8s    probe a primary 1
         8.1s  key vacant
         8.2s  key b 20 lease 30s
         8.3s  probe b primary 2",
    );
    assert!(report.steps.iter().all(|(_, step)| *step != FailoverStep::Waiting), "{report:?}");
    assert_eq!(report.downtime(), Some(Duration::from_millis(200)));
}

#[test]
fn a_deleted_key_comes_before_the_termination_that_it_causes() {
    let report = only_report("1s key vacant\n2s key a 20 lease 30s\n2.1s probe a primary 1");
    let steps = [FailoverStep::KeyDeleted, FailoverStep::Terminated, FailoverStep::Routed(a())];
    assert_eq!(report.steps.into_iter().map(|(_, step)| step).collect::<Vec<_>>(), steps);
    assert_eq!(report.to.map(|(member, _)| member), Some(a()), "the same member may lead again");
}

#[test]
fn a_step_that_is_seen_twice_is_reported_once() {
    let report = only_report(
        "1s    key vacant
         1.5s  key vacant
         2s    key b 20
         2.1s  key b 20 lease 30s
         3s    probe b primary 2",
    );
    let moments: Vec<_> = report.steps.iter().map(|(at, _)| at.since_boot().as_millis()).collect();
    assert_eq!(moments, [1000, 1000, 2000, 3000, 3000]);
}

#[test]
fn a_report_without_a_new_leader_is_unfinished() {
    let report = only_report("1s key vacant");
    assert_eq!((report.to, report.to_epoch), (None, None));
    assert_eq!(
        report.steps,
        [(at_ms(1000), FailoverStep::KeyDeleted), (at_ms(1000), FailoverStep::Terminated)]
    );
}

#[test]
fn a_withdrawn_announcement_is_not_reported() {
    let report = only_report("1s switchover announced\n2s switchover over\n3s probe a refused");
    assert_eq!(report.steps, [(at_ms(3000), FailoverStep::Terminated)]);
}

#[test]
fn a_change_without_downtime_has_its_own_report() {
    let report = only_report("1s probe a primary 2");
    assert_eq!(
        report.steps,
        [(at_ms(1000), FailoverStep::Terminated), (at_ms(1000), FailoverStep::Routed(a()))]
    );
    assert_eq!(report.to, Some((a(), Timeline(2))));
}

#[test]
fn only_the_last_thirty_two_reports_are_kept() {
    let restarts: String =
        (1..=40).map(|n| format!("{n}s probe a refused\n{n}.5s probe a primary 1\n")).collect();
    let failover_log = reported(&format!("0.5s key a 10 lease 60s\n{restarts}")).failover_log;
    let epochs: Vec<u64> = failover_log.reports().map(|report| report.from_epoch.number()).collect();
    assert_eq!(epochs, (9..=40).collect::<Vec<u64>>());
}

fn reported(text: &str) -> Player {
    play(&parse("failover log", &format!("{HEALTHY}{text}")).unwrap().steps())
}

fn only_report(text: &str) -> FailoverReport {
    let failover_log = reported(text).failover_log;
    assert_eq!(failover_log.reports().count(), 1);
    failover_log.reports().next().unwrap().clone()
}

fn a() -> MemberName {
    MemberName::new("a")
}

fn b() -> MemberName {
    MemberName::new("b")
}
