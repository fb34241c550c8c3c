//! The metrics: families made from the same answers that people read, and the histograms that sessions fill.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use pg_leader_proxy_core::{Alarm, Reason};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::answers::{
    DcsAnswer, EvidenceAnswer, FailoversAnswer, MemberAnswer, ProbeAnswer, RoleAnswer, RoutingAnswer,
    SessionsAnswer,
};
use crate::clock;
use crate::counters::Counters;
use crate::phase::Phase;
use crate::route::RouteKind;

/// What every name begins with.
const PREFIX: &str = "pg_leader_proxy";

/// The format of an exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' own text format, which everything reads.
    Prometheus,
    /// OpenMetrics, for those who ask for it.
    OpenMetrics,
}

impl Format {
    /// The format that a client wants, by its `Accept` header.
    pub(super) fn wanted(accept: Option<&str>) -> Self {
        match accept {
            Some(types) if types.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Everything that is exposed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured<'a> {
    pub(super) routing: &'a RoutingAnswer,
    pub(super) failovers: &'a FailoversAnswer,
    pub(super) counters: &'a Counters,
    pub(super) dropped_log_lines: u64,
}

/// The metrics as Prometheus reads them, each with the label `cluster`.
pub(super) fn exposition(measured: Measured<'_>, format: Format) -> Result<String, fmt::Error> {
    let cluster = measured.routing.cluster.clone();
    let labels = [(Cow::Borrowed("cluster"), Cow::Owned(cluster))];
    let mut registry = Registry::with_prefix_and_labels(PREFIX, labels.into_iter());
    registry.register_collector(Box::new(Families(families(measured))));
    let mut exposition = String::new();
    match format {
        Format::Prometheus => prometheus_text::encode(&mut exposition, &registry)?,
        Format::OpenMetrics => text::encode(&mut exposition, &registry)?,
    }
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
    Counters(Vec<(Labels, u64)>),
    /// They go up and down.
    Gauges(Vec<(Labels, f64)>),
    /// How often something took how long.
    Histograms(Vec<(Labels, Histogram)>),
}

#[derive(Debug)]
struct Labels(Vec<(&'static str, String)>);

impl Labels {
    /// Encodes one sample with these labels.
    fn sample(
        &self,
        metric: &mut MetricEncoder<'_>,
        encode: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        encode(metric.encode_family(&self.0.as_slice())?)
    }
}

impl Samples {
    const fn metric_type(&self) -> MetricType {
        match self {
            Self::Counters(_) => MetricType::Counter,
            Self::Gauges(_) => MetricType::Gauge,
            Self::Histograms(_) => MetricType::Histogram,
        }
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, samples } in &self.0 {
            let mut metric = encoder.encode_descriptor(name, help, None, samples.metric_type())?;
            match samples {
                Samples::Counters(samples) => samples.iter().try_for_each(|(labels, value)| {
                    labels.sample(&mut metric, |mut sample| {
                        sample.encode_counter::<NoLabelSet, u64, u64>(value, None)
                    })
                })?,
                Samples::Gauges(samples) => samples.iter().try_for_each(|(labels, value)| {
                    labels.sample(&mut metric, |mut sample| sample.encode_gauge(value))
                })?,
                Samples::Histograms(samples) => samples.iter().try_for_each(|(labels, value)| {
                    labels.sample(&mut metric, |sample| value.encode(sample))
                })?,
            }
        }
        Ok(())
    }
}

fn families(measured: Measured<'_>) -> Vec<Family> {
    let Measured { routing, failovers, counters, dropped_log_lines } = measured;
    let mut families = process(routing);
    families.extend(upkeep(routing, counters, dropped_log_lines));
    families.extend(decision(routing, failovers, counters));
    families.extend(evidence(&routing.evidence));
    families.extend(members(&routing.evidence.members));
    families.extend(sessions(routing));
    families.extend(times(counters));
    families
}

fn process(routing: &RoutingAnswer) -> Vec<Family> {
    let version = labels([("version", &routing.version)]);
    vec![
        gauges("build_info", "The version of the program", [(version, 1.0)]),
        gauge("uptime_seconds", "How long the process has run", seconds(routing.uptime_ms)),
        gauge("draining", "Whether no new sessions are accepted", flag(routing.phase == Phase::Draining)),
    ]
}

/// What an operator did, and what became of the log.
fn upkeep(routing: &RoutingAnswer, counters: &Counters, dropped_log_lines: u64) -> Vec<Family> {
    let reloads = &counters.reloads;
    let since_start = clock::now() - Duration::from_millis(routing.uptime_ms);
    let in_force = clock::now().since(reloads.applied_at().unwrap_or(since_start));
    vec![
        counts(
            "config_reloads",
            "Reloads of the configuration",
            [("applied", &reloads.applied), ("refused", &reloads.refused)]
                .map(|(result, count)| (labels([("result", result)]), count.value())),
        ),
        gauge(
            "config_reload_refused",
            "Whether the last reload was refused, so that the old configuration is still in force",
            flag(reloads.last_was_refused()),
        ),
        gauge(
            "config_age_seconds",
            "How long ago the configuration in force was read",
            in_force.as_secs_f64(),
        ),
        counts(
            "log_lines_dropped",
            "Log lines dropped because standard error was not read fast enough",
            [(labels([]), dropped_log_lines)],
        ),
    ]
}

fn decision(routing: &RoutingAnswer, failovers: &FailoversAnswer, counters: &Counters) -> Vec<Family> {
    let write = &routing.write;
    let holding = write.reason.as_ref().map(|reason| reason.code.as_str());
    let reasons = Reason::CODES.map(|code| (labels([("reason", code)]), flag(holding == Some(code))));
    let alarms = Alarm::CODES.map(|code| {
        let raised = routing.alarms.iter().any(|alarm| alarm.code == code);
        (labels([("alarm", code)]), flag(raised))
    });
    let last_epoch = failovers.failovers.last().map(|failover| failover.from_epoch);
    let epoch = write.leader.as_ref().map(|leader| leader.epoch).or(last_epoch);
    let read_servers = routing.read.servers.iter().filter(|server| server.new_sessions).count() as u64;
    vec![
        gauge("route_epoch", "The count of confirmed leaders", number(epoch.unwrap_or_default())),
        gauges("hold_reason", "Why new sessions of the write route wait", reasons),
        gauge(
            "route_valid_seconds",
            "How long the write route may go on forwarding without newer observations",
            seconds(write.valid_for_ms.unwrap_or_default()),
        ),
        gauge(
            "two_primaries",
            "Whether more than one member is out of recovery",
            flag(!routing.two_primaries.is_empty()),
        ),
        gauges("alarm", "Whether there is an alarm of this kind", alarms),
        counts("leader_changes", "Changes of leader", [(labels([]), failovers.total)]),
        histograms(
            "write_downtime_seconds",
            "How long new sessions waited for a leader at a change of leader",
            [(labels([]), counters.write_downtime.histogram())],
        ),
        gauge("read_servers", "Servers of the read route that take new sessions", number(read_servers)),
    ]
}

fn evidence(evidence: &EvidenceAnswer) -> Vec<Family> {
    let lease = evidence.lease.as_ref();
    vec![
        gauge("dcs_live", "Whether etcd gives linearizable answers", flag(evidence.dcs == DcsAnswer::Live)),
        gauges(
            "lease_valid_seconds",
            "How long the lease of the leader key is still valid",
            lease.map(|lease| (labels([]), seconds(lease.valid_for_ms))),
        ),
        gauges(
            "lease_confirmed_age_seconds",
            "How long ago the question was sent whose answer confirmed the lease",
            lease.map(|lease| (labels([]), seconds(lease.age_ms))),
        ),
        gauge("cluster_paused", "Whether Patroni is in maintenance mode", flag(evidence.paused)),
    ]
}

fn members(members: &[MemberAnswer]) -> Vec<Family> {
    let each = |value: fn(&MemberAnswer) -> Option<f64>| {
        let samples =
            members.iter().filter_map(|member| Some((labels([("member", &member.member)]), value(member)?)));
        samples.collect::<Vec<_>>()
    };
    vec![
        gauges(
            "member_leader",
            "Whether the write route forwards to this member",
            each(|member| Some(flag(member.leader))),
        ),
        gauges(
            "member_healthy",
            "Whether this member is as it should be, as leader or as replica",
            each(|member| Some(flag(member.healthy))),
        ),
        gauges(
            "member_primary",
            "Whether this member says it is out of recovery",
            each(|member| Some(flag(member.last_probe.as_ref()?.role == RoleAnswer::Primary))),
        ),
        gauges(
            "member_timeline",
            "The timeline of this member",
            each(|member| Some(f64::from(member.last_probe.as_ref()?.timeline?))),
        ),
        gauges(
            "member_lag_bytes",
            "How many bytes of WAL this replica is behind",
            each(|member| Some(number(member.last_probe.as_ref()?.lag_bytes?))),
        ),
        gauges(
            "last_probe_age_seconds",
            "How long ago the last probe was sent that this member answered",
            each(|member| member.last_probe.as_ref().map(|ProbeAnswer { age_ms, .. }| seconds(*age_ms))),
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
    let rejections = routes.iter().flat_map(|(route, counted)| {
        let reasons = counted.rejected.iter();
        reasons.map(move |(reason, value)| (labels([("route", route), ("reason", reason)]), *value))
    });
    let bytes = routes.iter().flat_map(|(route, counted)| {
        [("to_server", counted.bytes_to_server), ("to_client", counted.bytes_to_client)]
            .map(|(direction, value)| (labels([("route", route), ("direction", direction)]), value))
    });
    vec![
        gauges("sessions", "Sessions open now, held ones included", level(|route| route.open)),
        gauges("held_clients", "Clients waiting for a server now", level(|route| route.held)),
        counts("accepted_connections", "Client connections accepted", each(|route| route.accepted)),
        counts("connected_sessions", "Sessions connected to a server", each(|route| route.connected)),
        counts(
            "terminated_sessions",
            "Sessions terminated by the proxy, or by their server when it stopped being the leader",
            each(|route| route.terminated),
        ),
        counts(
            "connect_failures",
            "Attempts to connect to a server that failed",
            each(|route| route.connect_failures),
        ),
        counts("cancel_requests", "Cancel requests forwarded", each(|route| route.cancel_requests)),
        counts("rejections", "Clients rejected", rejections),
        counts("relayed_bytes", "Bytes relayed, counted when a session ends", bytes),
    ]
}

fn times(counters: &Counters) -> Vec<Family> {
    let each = |value: fn(&Counters, RouteKind) -> Histogram| {
        RouteKind::ALL.map(|route| (labels([("route", route.code())]), value(counters, route)))
    };
    vec![
        histograms(
            "held_seconds",
            "How long clients waited that had to wait, until they were let in, were rejected or left",
            each(|counters, route| counters.route(route).held_time.histogram()),
        ),
        histograms(
            "connect_seconds",
            "How long a server took from the attempt to connect to its first answer",
            each(|counters, route| counters.route(route).connect_time.histogram()),
        ),
    ]
}

fn counts(
    name: &'static str,
    help: &'static str,
    samples: impl IntoIterator<Item = (Labels, u64)>,
) -> Family {
    Family { name, help, samples: Samples::Counters(samples.into_iter().collect()) }
}

fn gauges(
    name: &'static str,
    help: &'static str,
    samples: impl IntoIterator<Item = (Labels, f64)>,
) -> Family {
    Family { name, help, samples: Samples::Gauges(samples.into_iter().collect()) }
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Family {
    gauges(name, help, [(labels([]), value)])
}

fn histograms(
    name: &'static str,
    help: &'static str,
    samples: impl IntoIterator<Item = (Labels, Histogram)>,
) -> Family {
    Family { name, help, samples: Samples::Histograms(samples.into_iter().collect()) }
}

fn labels<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    Labels(labels.map(|(name, value)| (name, value.to_owned())).into())
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
