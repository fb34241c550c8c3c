//! The answer `/failovers`: the router's reports, and what sessions met meanwhile.

use pg_leader_proxy_core::{FailoverReport, FailoverStep, MemberName, Moment, RouteEpoch, Timeline};

use super::answers::{FailoverAnswer, FailoversAnswer, PrimaryAnswer, StepAnswer};
use super::routing::{ms, reason};
use crate::control::View;
use crate::counters::Counters;

/// Every report that is remembered, merged with what was counted for the epochs before and after.
pub(super) fn failovers(view: &View, counters: &Counters) -> FailoversAnswer {
    FailoversAnswer {
        total: ended_epochs(view),
        failovers: view.reports.iter().map(|report| failover(report, counters, view.now)).collect(),
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
    let severed_at = report.terminated().unwrap_or_default();
    let before = counters.epoch(report.from_epoch);
    let after = report.to_epoch.and_then(|epoch| counters.epoch(epoch));
    let last_passed = before.as_ref().and_then(|epoch| epoch.last_byte_at());
    let first_served = after.as_ref().and_then(|epoch| epoch.first_byte_at());
    let stopped = last_passed.unwrap_or(severed_at);
    let went_on = first_served.or_else(|| report.routed());
    FailoverAnswer {
        from: primary(&report.from),
        from_epoch: report.from_epoch.number(),
        to: report.to.as_ref().map(primary),
        to_epoch: report.to_epoch.map(RouteEpoch::number),
        cause: reason(&report.cause),
        age_ms: ms(now.since(severed_at)),
        gap_ms: went_on.map(|went_on| ms(went_on.since(stopped))),
        severed: before.map_or(0, |epoch| epoch.terminated()),
        waited: after.map_or(0, |epoch| epoch.waited.value()),
        steps: steps(report, last_passed, first_served)
            .into_iter()
            .map(|(at, step, member, text)| StepAnswer {
                at_ms: relative(at, severed_at),
                age_ms: ms(now.since(at)),
                step: step.to_owned(),
                member: member.map(ToString::to_string),
                text,
            })
            .collect(),
    }
}

type Told<'a> = (Moment, &'static str, Option<&'a MemberName>, String);

/// The steps in order; what happens in one moment stays in the order of cause and effect.
fn steps(
    report: &FailoverReport,
    last_passed: Option<Moment>,
    first_served: Option<Moment>,
) -> Vec<Told<'_>> {
    let passed = last_passed.map(|at| (at, "last_passed", None, "the last byte was passed".to_owned()));
    let served = first_served.map(|at| (at, "first_served", None, "the first client was served".to_owned()));
    let reported = report.steps.iter().map(|(at, step)| told(*at, step));
    let mut steps: Vec<Told<'_>> = passed.into_iter().chain(reported).chain(served).collect();
    steps.sort_by_key(|(at, ..)| *at);
    steps
}

fn told(at: Moment, step: &FailoverStep) -> Told<'_> {
    match step {
        FailoverStep::Announced => (at, "announced", None, "a switchover was asked for".to_owned()),
        FailoverStep::KeyDeleted => (at, "key_deleted", None, "the leader key was gone".to_owned()),
        FailoverStep::KeyPut(member) => {
            (at, "key_put", Some(member), format!("{member} took the leader key"))
        }
        FailoverStep::Terminated => {
            (at, "severed", None, "forwarding stopped, the sessions were severed".to_owned())
        }
        FailoverStep::LeftRecovery(member) => {
            (at, "left_recovery", Some(member), format!("{member} left recovery"))
        }
        FailoverStep::Routed(member) => (at, "routed", Some(member), format!("forwarding began to {member}")),
    }
}

fn primary((member, timeline): &(MemberName, Timeline)) -> PrimaryAnswer {
    PrimaryAnswer { member: member.to_string(), timeline: timeline.0 }
}

fn relative(at: Moment, zero: Moment) -> i64 {
    let (after, before) = (ms(at.since(zero)), ms(zero.since(at)));
    i64::try_from(after).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX)
}
