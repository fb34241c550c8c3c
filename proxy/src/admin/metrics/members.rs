//! Metrics of each member: what it says of itself, and how its probes went.

use std::sync::Arc;

use pg_leader_proxy_core::{MemberName, ProbeFailure};

use super::Samples::{Counter, Gauge, Histogram};
use super::sample::{Sample, flag, number, sample, seconds};
use super::{Measured, Metric};
use crate::admin::answers::{MemberAnswer, RoleAnswer};
use crate::counters::{MemberCounters, ProbedOver};

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "member_leader",
        labels: &["member"],
        meaning: "Whether the write route forwards to this member",
        worry: "The sum over the members is 0 for longer than a failover takes, or two proxies disagree",
        samples: Gauge(|measured| each(measured, |member| Some(flag(member.leader)))),
    },
    Metric {
        name: "member_healthy",
        labels: &["member"],
        meaning: "Whether this member is as it should be, as leader or as replica",
        worry: "0 for longer than a restart of the member takes",
        samples: Gauge(|measured| each(measured, |member| Some(flag(member.healthy)))),
    },
    Metric {
        name: "member_primary",
        labels: &["member"],
        meaning: "Whether this member says it is out of recovery",
        worry: "More than one is 1: see `two_primaries`",
        samples: Gauge(|measured| {
            each(measured, |member| Some(flag(member.last_probe.as_ref()?.role == RoleAnswer::Primary)))
        }),
    },
    Metric {
        name: "member_timeline",
        labels: &["member"],
        meaning: "The timeline of this member",
        worry: "It differs from the leader's for minutes: the member did not follow, or was promoted",
        samples: Gauge(|measured| {
            each(measured, |member| Some(f64::from(member.last_probe.as_ref()?.timeline?)))
        }),
    },
    Metric {
        name: "member_lag_bytes",
        labels: &["member"],
        meaning: "How many bytes of WAL this replica is behind",
        worry: "It grows, or exceeds `read.max_lag`",
        samples: Gauge(|measured| {
            each(measured, |member| Some(number(member.last_probe.as_ref()?.lag_bytes?)))
        }),
    },
    Metric {
        name: "last_probe_age_seconds",
        labels: &["member"],
        meaning: "How long ago the last probe was sent that this member answered",
        worry: "Above `policy.max_probe_age`: the member is silent",
        samples: Gauge(|measured| {
            each(measured, |member| member.last_probe.as_ref().map(|probe| seconds(probe.age_ms)))
        }),
    },
    Metric {
        name: "probes_total",
        labels: &["member", "connection"],
        meaning: "Probes of this member, over the kept connection (`persistent`) and over one made for the probe (`new`)",
        worry: "It stands still: the proxy does not get to its probes",
        samples: Counter(probes),
    },
    Metric {
        name: "probe_failures_total",
        labels: &["member", "connection", "code"],
        meaning: "Probes of this member that failed, by the connection and by how they failed",
        worry: "`denied`, `failed` or `too_many_connections` grows over `new`: the monitoring user can no longer log in, \
                and the proxy is blind as soon as the kept connection ends",
        samples: Counter(probe_failures),
    },
    Metric {
        name: "write_downtime_seconds",
        labels: &["member"],
        meaning: "How long new sessions waited for a leader at a change of leader, by the member that leads afterwards",
        worry: "A change takes longer than `write.hold_timeout`: clients got errors",
        samples: Histogram(|measured| {
            let counters = counters(measured);
            counters.map(|(member, counters)| sample([member], counters.write_downtime.histogram())).collect()
        }),
    },
];

fn each(measured: &Measured, value: fn(&MemberAnswer) -> Option<f64>) -> Vec<Sample<f64>> {
    let members = measured.routing.evidence.members.iter();
    members.filter_map(|member| Some(sample([&member.member], value(member)?))).collect()
}

/// What was counted of each member that is known.
pub(super) fn counters(measured: &Measured) -> impl Iterator<Item = (&str, Arc<MemberCounters>)> {
    let members = measured.routing.evidence.members.iter();
    members.map(|member| (member.member.as_str(), measured.counters.member(&MemberName::new(&member.member))))
}

fn probes(measured: &Measured) -> Vec<Sample<f64>> {
    let counters = counters(measured);
    counters
        .flat_map(|(member, counters)| {
            ProbedOver::ALL
                .map(|over| sample([member, over.code()], number(counters.probes(over).sent.value())))
        })
        .collect()
}

fn probe_failures(measured: &Measured) -> Vec<Sample<f64>> {
    let mut samples = Vec::new();
    for (member, counters) in counters(measured) {
        for over in ProbedOver::ALL {
            samples.extend(ProbeFailure::ALL.map(|failure| {
                let count = counters.probes(over).failures(failure).value();
                sample([member, over.code(), failure.code()], number(count))
            }));
        }
    }
    samples
}
