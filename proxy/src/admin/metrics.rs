//! The metrics, as a table of families made from the same answers that people read.

use std::fmt;

use pg_leader_proxy_core::Reason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::answers::{EvidenceAnswer, FailoversAnswer, MemberAnswer, RoutingAnswer, SessionsAnswer};

/// The content type of the exposition.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics as Prometheus reads them.
pub(super) fn exposition(routing: &RoutingAnswer, failovers: &FailoversAnswer) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families(routing, failovers))));
    let mut exposition = String::new();
    text::encode(&mut exposition, &registry)?;
    Ok(exposition)
}

#[derive(Debug)]
struct Families(Vec<Family>);

/// A metric with all its labels.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    samples: Samples,
}

#[derive(Debug)]
enum Samples {
    /// They only grow; `_total` is added to the name.
    Counts(Vec<(Labels, u64)>),
    /// They go up and down.
    Gauges(Vec<(Labels, f64)>),
}

#[derive(Debug)]
struct Labels(Vec<(&'static str, String)>);

impl Labels {
    /// Encodes one sample with these labels. No labels are no braces.
    fn sample(
        &self,
        metric: &mut MetricEncoder<'_>,
        encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        match self.0.as_slice() {
            [] => encode(metric),
            labels => encode(&mut metric.encode_family(&labels)?),
        }
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            match &family.samples {
                Samples::Counts(samples) => {
                    let mut metric =
                        encoder.encode_descriptor(family.name, family.help, None, MetricType::Counter)?;
                    for (labels, value) in samples {
                        let encode = |metric: &mut MetricEncoder<'_>| {
                            metric.encode_counter::<NoLabelSet, u64, u64>(value, None)
                        };
                        labels.sample(&mut metric, encode)?;
                    }
                }
                Samples::Gauges(samples) => {
                    let mut metric =
                        encoder.encode_descriptor(family.name, family.help, None, MetricType::Gauge)?;
                    for (labels, value) in samples {
                        labels.sample(&mut metric, |metric| metric.encode_gauge(value))?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn families(routing: &RoutingAnswer, failovers: &FailoversAnswer) -> Vec<Family> {
    let mut families = process(routing);
    families.extend(decision(routing, failovers));
    families.extend(evidence(&routing.evidence));
    families.extend(members(&routing.evidence.members));
    families.extend(sessions(routing));
    families
}

fn process(routing: &RoutingAnswer) -> Vec<Family> {
    vec![
        gauges(
            "proxy_build_info",
            "The version of the program",
            [(labels([("version", &routing.version)]), 1.0)],
        ),
        gauge("proxy_uptime_seconds", "How long the process has run", seconds(routing.uptime_ms)),
        gauge("proxy_draining", "Whether no new sessions are taken", flag(routing.phase == "draining")),
    ]
}

fn decision(routing: &RoutingAnswer, failovers: &FailoversAnswer) -> Vec<Family> {
    let write = &routing.write;
    let holding = write.reason.as_ref().map(|reason| reason.code.as_str());
    let reasons =
        Reason::CODES.map(|code| (labels([("reason", &code.to_owned())]), flag(holding == Some(code))));
    let epoch = write
        .leader
        .as_ref()
        .map(|leader| leader.epoch)
        .or_else(|| failovers.failovers.last().map(|failover| failover.from_epoch));
    let gap = failovers.failovers.iter().rev().find_map(|failover| failover.gap_ms);
    vec![
        gauge("proxy_route_epoch", "The count of confirmed leaders", number(epoch.unwrap_or_default())),
        gauges("proxy_hold_reason", "Why new sessions of the write route wait", reasons),
        gauge(
            "proxy_trusted_seconds",
            "For how long the write route may go on without newer evidence",
            seconds(write.trusted_for_ms.unwrap_or_default()),
        ),
        gauge(
            "proxy_two_primaries",
            "Whether more than one member is out of recovery",
            flag(!routing.two_primaries.is_empty()),
        ),
        counts("proxy_failovers", "Ended epochs of the write route", [(Labels(Vec::new()), failovers.total)]),
        gauges(
            "proxy_failover_gap_seconds",
            "How long no client was served at the last change of leader",
            gap.map(|gap| (Labels(Vec::new()), seconds(gap))),
        ),
        gauge("proxy_read_servers", "Servers of the read route that take new sessions", {
            number(routing.read.servers.iter().filter(|server| server.admits).count() as u64)
        }),
    ]
}

fn evidence(evidence: &EvidenceAnswer) -> Vec<Family> {
    let lease = evidence.lease.as_ref();
    let ages = lease.map(|lease| (labels([("source", &"lease".to_owned())]), seconds(lease.age_ms)));
    let words = evidence.members.iter().filter_map(|member| {
        let age = member.word.as_ref()?.age_ms;
        Some((labels([("source", &"probe".to_owned()), ("member", &member.member)]), seconds(age)))
    });
    vec![
        gauges(
            "proxy_evidence_age_seconds",
            "How long ago the question was sent whose answer is relied on",
            ages.into_iter().chain(words),
        ),
        gauge("proxy_dcs_live", "Whether etcd gives linearizable answers", flag(evidence.dcs == "live")),
        gauges(
            "proxy_lease_remaining_seconds",
            "How much is left of the lease of the leader key",
            lease.map(|lease| (Labels(Vec::new()), seconds(lease.remaining_ms))),
        ),
        gauge("proxy_cluster_paused", "Whether Patroni is in maintenance mode", flag(evidence.paused)),
    ]
}

fn members(members: &[MemberAnswer]) -> Vec<Family> {
    let each = |value: fn(&MemberAnswer) -> Option<f64>| {
        members
            .iter()
            .filter_map(|member| Some((labels([("member", &member.member)]), value(member)?)))
            .collect::<Vec<_>>()
    };
    vec![
        gauges(
            "proxy_leader",
            "Whether the write route forwards to this member",
            each(|member| Some(flag(member.leader))),
        ),
        gauges(
            "proxy_member_healthy",
            "Whether this member is as it should be, as leader or as replica",
            each(|member| Some(flag(member.healthy))),
        ),
        gauges(
            "proxy_member_primary",
            "Whether this member says it is out of recovery",
            each(|member| Some(flag(member.word.as_ref()?.role == "primary"))),
        ),
        gauges(
            "proxy_member_timeline",
            "The timeline of this member",
            each(|member| Some(f64::from(member.word.as_ref()?.timeline?))),
        ),
        gauges(
            "proxy_member_lag_bytes",
            "How many bytes of log this replica is behind",
            each(|member| Some(number(member.word.as_ref()?.lag_bytes?))),
        ),
    ]
}

fn sessions(routing: &RoutingAnswer) -> Vec<Family> {
    let routes = &routing.sessions;
    let each = |value: fn(&SessionsAnswer) -> u64| {
        let samples = routes.iter().map(|(route, counted)| (labels([("route", route)]), value(counted)));
        samples.collect::<Vec<_>>()
    };
    let level = |value: fn(&SessionsAnswer) -> u64| {
        each(value).into_iter().map(|(labels, value)| (labels, number(value))).collect::<Vec<_>>()
    };
    let refusals = routes.iter().flat_map(|(route, counted)| {
        counted
            .refusals
            .iter()
            .map(move |(reason, value)| (labels([("route", route), ("reason", reason)]), *value))
    });
    let bytes = routes.iter().flat_map(|(route, counted)| {
        [("to_server", counted.bytes_to_server), ("to_client", counted.bytes_to_client)]
            .map(|(way, value)| (labels([("route", route), ("direction", &way.to_owned())]), value))
    });
    vec![
        gauges("proxy_sessions", "Sessions open now, held ones included", level(|route| route.open)),
        gauges("proxy_sessions_held", "Clients waiting for a server now", level(|route| route.held)),
        counts("proxy_sessions_accepted", "Client connections accepted", each(|route| route.accepted)),
        counts("proxy_sessions_waited", "Clients that had to wait for a server", each(|route| route.waited)),
        counts("proxy_sessions_connected", "Sessions connected to a server", each(|route| route.connected)),
        counts("proxy_sessions_severed", "Sessions severed", each(|route| route.severed)),
        counts(
            "proxy_connect_failures",
            "Attempts to connect to a server that failed",
            each(|route| route.connect_failures),
        ),
        counts("proxy_cancels", "Cancel requests forwarded", each(|route| route.cancels)),
        counts("proxy_refusals", "Clients turned away", refusals),
        counts("proxy_bytes", "Bytes relayed, counted when a session ends", bytes),
    ]
}

fn counts(
    name: &'static str,
    help: &'static str,
    samples: impl IntoIterator<Item = (Labels, u64)>,
) -> Family {
    Family { name, help, samples: Samples::Counts(samples.into_iter().collect()) }
}

fn gauges(
    name: &'static str,
    help: &'static str,
    samples: impl IntoIterator<Item = (Labels, f64)>,
) -> Family {
    Family { name, help, samples: Samples::Gauges(samples.into_iter().collect()) }
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Family {
    gauges(name, help, [(Labels(Vec::new()), value)])
}

fn labels<const N: usize>(labels: [(&'static str, &String); N]) -> Labels {
    Labels(labels.map(|(name, value)| (name, value.clone())).into())
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn seconds(ms: u64) -> f64 {
    number(ms) / 1000.0
}

/// A metric is a float by its format; above 2^53 the last digits are lost, which no graph shows.
#[allow(clippy::cast_precision_loss)]
const fn number(value: u64) -> f64 {
    value as f64
}
