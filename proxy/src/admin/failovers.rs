//! The answer `/failovers`: the router's reports, and what sessions met meanwhile.

use pg_leader_proxy_core::{FailoverReport, FailoverStep, MemberName, Moment, RouteEpoch, Timeline};

use super::answers::{FailoverAnswer, FailoversAnswer, PrimaryAnswer, StepAnswer, StepKind, ms};
use super::routing::Process;
use crate::control::View;
use crate::counters::Counters;

/// Every report that is remembered, merged with what was counted for the epochs before and after.
pub(super) fn failovers(view: &View, process: Process<'_>) -> FailoversAnswer {
    FailoversAnswer {
        cluster: process.cluster.to_owned(),
        total: ended_epochs(view),
        failovers: view.reports.iter().map(|report| failover(report, process.counters, view.now)).collect(),
    }
}

/// Each epoch that ended was a change of leader; the reports cannot tell their number, since old ones are forgotten.
fn ended_epochs(view: &View) -> u64 {
    match view.routing.write.leader() {
        Some(leader) => leader.epoch().number().saturating_sub(1),
        None => view.reports.last().map_or(0, |report| report.from_epoch.number()),
    }
}

fn failover(report: &FailoverReport, counters: &Counters, now: Moment) -> FailoverAnswer {
    let stopped = report.terminated().unwrap_or_default();
    let before = counters.epoch(report.from_epoch);
    let after = report.to_epoch.and_then(|epoch| counters.epoch(epoch));
    let last_byte = before.as_ref().and_then(|epoch| epoch.last_byte_at());
    let first_byte = after.as_ref().and_then(|epoch| epoch.first_byte_at());
    FailoverAnswer {
        from: primary(&report.from),
        from_epoch: report.from_epoch.number(),
        to: report.to.as_ref().map(primary),
        to_epoch: report.to_epoch.map(RouteEpoch::number),
        cause: (&report.cause).into(),
        age_ms: ms(now.since(stopped)),
        write_downtime_ms: report.downtime().map(ms),
        terminated_sessions: before.map_or(0, |epoch| epoch.terminated()),
        held_clients: after.map_or(0, |epoch| epoch.waited.value()),
        steps: steps(report, last_byte, first_byte)
            .into_iter()
            .map(|(at, step, member, text)| StepAnswer {
                at_ms: relative(at, stopped),
                age_ms: ms(now.since(at)),
                step,
                member: member.map(ToString::to_string),
                text,
            })
            .collect(),
    }
}

type Step<'a> = (Moment, StepKind, Option<&'a MemberName>, String);

/// The steps in order; what happens in one moment stays in the order of cause and effect.
fn steps(report: &FailoverReport, last_byte: Option<Moment>, first_byte: Option<Moment>) -> Vec<Step<'_>> {
    let last = last_byte.map(|at| (at, StepKind::LastByte, None, "the last byte passed".to_owned()));
    let first = first_byte
        .map(|at| (at, StepKind::FirstClientServed, None, "the first client was served".to_owned()));
    let reported = report.steps.iter().map(|(at, step)| reported(*at, step));
    let mut steps: Vec<Step<'_>> = last.into_iter().chain(reported).chain(first).collect();
    steps.sort_by_key(|(at, ..)| *at);
    steps
}

fn reported(at: Moment, step: &FailoverStep) -> Step<'_> {
    let of = |kind, text: &str| (at, kind, None, text.to_owned());
    match step {
        FailoverStep::Announced => of(StepKind::SwitchoverRequested, "a switchover was requested"),
        FailoverStep::KeyDeleted => of(StepKind::LeaderKeyDeleted, "the leader key was deleted"),
        FailoverStep::Waiting => of(StepKind::NewSessionsWaited, "new sessions began to wait"),
        FailoverStep::Terminated => {
            of(StepKind::ForwardingStopped, "forwarding stopped, the sessions were terminated")
        }
        FailoverStep::KeyPut(member) => {
            (at, StepKind::LeaderKeyTaken, Some(member), format!("{member} took the leader key"))
        }
        FailoverStep::LeftRecovery(member) => {
            (at, StepKind::LeftRecovery, Some(member), format!("{member} left recovery"))
        }
        FailoverStep::Routed(member) => {
            (at, StepKind::ForwardingStarted, Some(member), format!("forwarding to {member} started"))
        }
    }
}

fn primary((member, timeline): &(MemberName, Timeline)) -> PrimaryAnswer {
    PrimaryAnswer { member: member.to_string(), timeline: timeline.0 }
}

fn relative(at: Moment, zero: Moment) -> i64 {
    let (after, before) = (ms(at.since(zero)), ms(zero.since(at)));
    i64::try_from(after).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX)
}
