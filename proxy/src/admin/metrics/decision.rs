//! Metrics of the decision: where writes go, why clients wait, what etcd says.

use pg_leader_proxy_core::{Alarm, Reason};

use super::Samples::{Counter, Gauge};
use super::sample::{Sample, flag, maybe, number, one, sample, seconds};
use super::{Measured, Metric};
use crate::admin::answers::{DcsAnswer, SourcesAnswer};
use crate::route::RouteKind;

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "route_epoch",
        labels: &[],
        meaning: "The count of confirmed leaders",
        worry: "It grows without a failover or a switchover: one leader is lost and confirmed in turn",
        samples: Gauge(|measured| one(number(epoch(measured)))),
    },
    Metric {
        name: "hold_reason",
        labels: &["route", "reason"],
        meaning: "Why new sessions of the route wait; missing for a route that listens nowhere",
        worry: "Any of them is 1 for longer than a failover takes. `status` and the page say the reason in words",
        samples: Gauge(hold_reasons),
    },
    Metric {
        name: "route_valid_seconds",
        labels: &[],
        meaning: "How long the write route may go on forwarding without newer observations",
        worry: "It keeps falling: no observation confirms the leader any more",
        samples: Gauge(|measured| one(seconds(measured.routing.write.valid_for_ms.unwrap_or_default()))),
    },
    Metric {
        name: "two_primaries",
        labels: &[],
        meaning: "Whether more than one member is out of recovery",
        worry: "1 at any time: stop one of them, and compare what they wrote",
        samples: Gauge(|measured| one(flag(!measured.routing.two_primaries.is_empty()))),
    },
    Metric {
        name: "alarm",
        labels: &["alarm"],
        meaning: "Whether there is an alarm of this kind",
        worry: "1 for more than a few minutes: `/routing` says what is wrong and with which member",
        samples: Gauge(alarms),
    },
    Metric {
        name: "leader_changes_total",
        labels: &[],
        meaning: "Changes of leader",
        worry: "More than the switchovers that you made",
        samples: Counter(|measured| one(number(measured.failovers.total))),
    },
    Metric {
        name: "read_servers",
        labels: &[],
        meaning: "Servers of the read route that take new sessions; missing if that route listens nowhere",
        worry: "Fewer than you have replicas; 0 means that readers wait",
        samples: Gauge(read_servers),
    },
    Metric {
        name: "dcs_live",
        labels: &[],
        meaning: "Whether etcd gives linearizable answers; missing without etcd",
        worry: "0 for longer than an election in etcd takes",
        samples: Gauge(dcs_live),
    },
    Metric {
        name: "lease_valid_seconds",
        labels: &[],
        meaning: "How long the lease of the leader key is still valid",
        worry: "Below `ttl - loop_wait` of Patroni: the leader does not renew its lease",
        samples: Gauge(|measured| {
            maybe(measured.routing.evidence.lease.as_ref().map(|lease| seconds(lease.valid_for_ms)))
        }),
    },
    Metric {
        name: "lease_confirmed_age_seconds",
        labels: &[],
        meaning: "How long ago the question was sent whose answer confirmed the lease",
        worry: "It grows: etcd does not answer",
        samples: Gauge(|measured| {
            maybe(measured.routing.evidence.lease.as_ref().map(|lease| seconds(lease.age_ms)))
        }),
    },
    Metric {
        name: "cluster_paused",
        labels: &[],
        meaning: "Whether Patroni is in maintenance mode",
        worry: "1 for longer than the maintenance: Patroni does not fail over",
        samples: Gauge(|measured| one(flag(measured.routing.evidence.paused))),
    },
];

fn epoch(measured: &Measured) -> u64 {
    let last_epoch = measured.failovers.failovers.last().map(|failover| failover.from_epoch);
    let leader = measured.routing.write.leader.as_ref();
    leader.map(|leader| leader.epoch).or(last_epoch).unwrap_or_default()
}

fn hold_reasons(measured: &Measured) -> Vec<Sample<f64>> {
    let routes = RouteKind::ALL.into_iter().filter(|route| listens(measured, *route));
    routes
        .flat_map(|route| {
            let holding = holding(measured, route);
            Reason::CODES.map(|code| sample([route.code(), code], flag(holding == Some(code))))
        })
        .collect()
}

/// The code of the reason why new sessions of `route` wait, if they do.
fn holding(measured: &Measured, route: RouteKind) -> Option<&str> {
    let (write, read) = (&measured.routing.write, &measured.routing.read);
    match route {
        RouteKind::Write => write.reason.as_ref().map(|reason| reason.code.as_str()),
        RouteKind::Read if read.servers.iter().any(|server| server.new_sessions) => None,
        RouteKind::Read => {
            Some(read.reason.as_ref().map_or(Reason::NoReplica.code(), |reason| reason.code.as_str()))
        }
    }
}

fn listens(measured: &Measured, route: RouteKind) -> bool {
    measured.counters.route(route).listening.value() > 0
}

fn alarms(measured: &Measured) -> Vec<Sample<f64>> {
    let raised = |code| measured.routing.alarms.iter().any(|alarm| alarm.code == code);
    Alarm::CODES.map(|code| sample([code], flag(raised(code)))).into()
}

fn read_servers(measured: &Measured) -> Vec<Sample<f64>> {
    let admitting = measured.routing.read.servers.iter().filter(|server| server.new_sessions);
    maybe(listens(measured, RouteKind::Read).then(|| number(admitting.count() as u64)))
}

fn dcs_live(measured: &Measured) -> Vec<Sample<f64>> {
    let asked = measured.routing.policy.sources == SourcesAnswer::EtcdAndServers;
    maybe(asked.then(|| flag(measured.routing.evidence.dcs == DcsAnswer::Live)))
}
