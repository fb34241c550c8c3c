//! Metrics of sessions: how many, how they began and ended, how long clients waited.

use super::Samples::{Counter, Gauge, Histogram};
use super::members::counters;
use super::sample::{Sample, number, one, sample};
use super::{Measured, Metric};
use crate::admin::answers::SessionsAnswer;
use crate::counters::{MemberRouteCounters, TerminationKind};
use crate::route::RouteKind;

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "sessions",
        labels: &["route"],
        meaning: "Sessions open now, held ones included",
        worry: "It comes near `max_sessions`",
        samples: Gauge(|measured| by_route(measured, |route| route.open)),
    },
    Metric {
        name: "max_sessions",
        labels: &[],
        meaning: "How many sessions there may be at once, over both routes: `session.max_sessions`, or less if the limit of open files is lower",
        worry: "Less than the configuration says: raise the limit of open files",
        samples: Gauge(|measured| one(number(measured.counters.max_sessions.value()))),
    },
    Metric {
        name: "member_sessions",
        labels: &["route", "member"],
        meaning: "Sessions that use this member now, or are connecting to it",
        worry: "Above 0 on the write route for a member that does not lead; or far more readers on one replica than on the others",
        samples: Gauge(|measured| by_member(measured, |counted| number(counted.open.value()))),
    },
    Metric {
        name: "held_clients",
        labels: &["route"],
        meaning: "Clients waiting for a server now",
        worry: "Above 0 for longer than a failover takes, or near `write.max_held`",
        samples: Gauge(|measured| by_route(measured, |route| route.held)),
    },
    Metric {
        name: "listening_addresses",
        labels: &["route"],
        meaning: "Addresses that the route listens on",
        worry: "Fewer than are configured",
        samples: Gauge(|measured| {
            RouteKind::ALL
                .map(|route| sample([route.code()], number(measured.counters.route(route).listening.value())))
                .into()
        }),
    },
    Metric {
        name: "accepted_connections_total",
        labels: &["route"],
        meaning: "Client connections accepted",
        worry: "The rate is far above the usual one: clients reconnect in a loop",
        samples: Counter(|measured| by_route(measured, |route| route.accepted)),
    },
    Metric {
        name: "connected_sessions_total",
        labels: &["route"],
        meaning: "Sessions connected to a server",
        worry: "It stands still while `accepted_connections_total` grows",
        samples: Counter(|measured| by_route(measured, |route| route.connected)),
    },
    Metric {
        name: "terminated_sessions_total",
        labels: &["route", "reason"],
        meaning: "Sessions terminated by the proxy, or by their server when it stopped being the leader (`ended_by_server`)",
        worry: "It grows without a change of leader or a drain",
        samples: Counter(terminations),
    },
    Metric {
        name: "connect_failures_total",
        labels: &["route", "member"],
        meaning: "Attempts to connect to a server that failed",
        worry: "It grows without a change of leader",
        samples: Counter(|measured| by_member(measured, |counted| number(counted.connect_failures.value()))),
    },
    Metric {
        name: "cancel_requests_total",
        labels: &["route"],
        meaning: "Cancel requests forwarded",
        worry: "The rate is far above the usual one: queries run into their time-outs",
        samples: Counter(|measured| by_route(measured, |route| route.cancel_requests)),
    },
    Metric {
        name: "rejections_total",
        labels: &["route", "reason"],
        meaning: "Clients rejected",
        worry: "It grows: these clients got an error",
        samples: Counter(rejections),
    },
    Metric {
        name: "relayed_bytes_total",
        labels: &["route", "direction"],
        meaning: "Bytes relayed, counted as they pass",
        worry: "It stands still while there are sessions that should be busy",
        samples: Counter(bytes),
    },
    Metric {
        name: "held_seconds",
        labels: &["route"],
        meaning: "How long clients waited that had to wait, until they were let in, were rejected or left",
        worry: "Its upper buckets fill: clients wait close to `write.hold_timeout`",
        samples: Histogram(|measured| {
            RouteKind::ALL
                .map(|route| sample([route.code()], measured.counters.route(route).held_time.histogram()))
                .into()
        }),
    },
    Metric {
        name: "connect_seconds",
        labels: &["route", "member"],
        meaning: "How long a server took from the attempt to connect to its first answer",
        worry: "The 99th percentile grows: the server or the network is overloaded",
        samples: Histogram(|measured| by_member(measured, |counted| counted.connect_time.histogram())),
    },
    Metric {
        name: "login_seconds",
        labels: &["route", "member"],
        meaning: "How long a login took from the server's first answer until it was ready for queries; not counted under TLS, which hides it",
        worry: "The 99th percentile grows: the server has no time for logins, or clients compute their SCRAM proofs slowly",
        samples: Histogram(|measured| by_member(measured, |counted| counted.login_time.histogram())),
    },
];

fn by_route(measured: &Measured, value: fn(&SessionsAnswer) -> u64) -> Vec<Sample<f64>> {
    let routes = measured.routing.sessions.iter();
    routes.map(|(route, counted)| sample([route], number(value(counted)))).collect()
}

fn by_member<T>(measured: &Measured, value: fn(&MemberRouteCounters) -> T) -> Vec<Sample<T>> {
    let members = counters(measured);
    let of_both = members.flat_map(|(member, counters)| {
        RouteKind::ALL.map(|route| sample([route.code(), member], value(counters.route(route))))
    });
    of_both.collect()
}

fn terminations(measured: &Measured) -> Vec<Sample<f64>> {
    let mut samples = Vec::new();
    for route in RouteKind::ALL {
        let counted = measured.counters.route(route);
        samples.extend(
            TerminationKind::ALL
                .map(|kind| sample([route.code(), kind.code()], number(counted.terminations(kind).value()))),
        );
    }
    samples
}

fn rejections(measured: &Measured) -> Vec<Sample<f64>> {
    let routes = measured.routing.sessions.iter();
    let rejected = routes.flat_map(|(route, counted)| {
        counted.rejected.iter().map(move |(reason, count)| sample([route, reason], number(*count)))
    });
    rejected.collect()
}

fn bytes(measured: &Measured) -> Vec<Sample<f64>> {
    let routes = measured.routing.sessions.iter();
    let passed = routes.flat_map(|(route, counted)| {
        [("to_server", counted.bytes_to_server), ("to_client", counted.bytes_to_client)]
            .map(|(direction, count)| sample([route, direction], number(count)))
    });
    passed.collect()
}
