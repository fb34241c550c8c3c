//! The metrics: one table that says of each what it means, when to worry and where its samples come from.
//!
//! `/metrics` and its HELP texts, the page of the documentation and the dashboard are all made from this table.

mod decision;
mod members;
mod process;
mod sample;
mod sessions;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use self::sample::{Numbers, Sample, Timings};
use super::answers::{FailoversAnswer, RoutingAnswer};
use super::process_stats::ProcessStats;
use crate::counters::Counters;

/// What every name begins with, except those of the process, which have the same names in every program.
const PREFIX: &str = "pg_leader_proxy_";

/// Every metric, in the groups in which they are explained.
pub const GROUPS: &[Group] = &[
    Group { title: "Decision", metrics: decision::METRICS },
    Group { title: "Members", metrics: members::METRICS },
    Group { title: "Sessions", metrics: sessions::METRICS },
    Group { title: "Process", metrics: process::METRICS },
];

/// Metrics about one subject.
#[derive(Debug)]
pub struct Group {
    /// The subject.
    pub title: &'static str,
    /// The metrics.
    pub metrics: &'static [Metric],
}

/// A metric: what it is called, what it means, and where its samples come from.
#[derive(Debug)]
pub struct Metric {
    /// The name without the prefix; that of a counter ends in `_total`.
    pub name: &'static str,
    /// The names of its labels. Every metric has the label `cluster` beside them.
    pub labels: &'static [&'static str],
    /// What it counts or measures.
    pub meaning: &'static str,
    /// When an operator should look into it.
    pub worry: &'static str,
    samples: Samples,
}

/// Where the samples of a metric come from.
#[derive(Debug)]
enum Samples {
    /// They only grow.
    Counter(Numbers),
    /// They go up and down.
    Gauge(Numbers),
    /// How often something took how long.
    Histogram(Timings),
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often something took how long.
    Histogram,
}

impl Kind {
    /// The word in an exposition.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Metric {
    /// The type of the metric.
    pub const fn kind(&self) -> Kind {
        match self.samples {
            Samples::Counter(_) => Kind::Counter,
            Samples::Gauge(_) => Kind::Gauge,
            Samples::Histogram(_) => Kind::Histogram,
        }
    }

    /// The name in an exposition.
    pub fn full_name(&self) -> String {
        let prefix = if self.name.starts_with("process_") { "" } else { PREFIX };
        format!("{prefix}{}", self.name)
    }

    /// What the name ends with, as Prometheus wants it; empty for a number of things.
    pub fn unit(&self) -> &'static str {
        match self.name.trim_end_matches("_total").rsplit('_').next() {
            Some("seconds") => "seconds",
            Some("bytes") => "bytes",
            _ => "",
        }
    }

    /// The HELP text, without the full stop at its end.
    pub fn help(&self) -> String {
        format!("{}. When to worry: {}", self.meaning, self.worry)
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>, measured: &Measured) -> fmt::Result {
        let (name, help) = (self.full_name(), self.help());
        let (metric_type, name) = match self.kind() {
            // The encoder adds the ending.
            Kind::Counter => (MetricType::Counter, name.trim_end_matches("_total")),
            Kind::Gauge => (MetricType::Gauge, name.as_str()),
            Kind::Histogram => (MetricType::Histogram, name.as_str()),
        };
        let mut metric = encoder.encode_descriptor(name, &help, None, metric_type)?;
        match self.samples {
            Samples::Counter(read) => read(measured).iter().try_for_each(|sample| {
                let labels = self.labels_of(sample);
                metric
                    .encode_family(&labels.as_slice())?
                    .encode_counter::<NoLabelSet, f64, u64>(&sample.value, None)
            }),
            Samples::Gauge(read) => read(measured).iter().try_for_each(|sample| {
                let labels = self.labels_of(sample);
                metric.encode_family(&labels.as_slice())?.encode_gauge(&sample.value)
            }),
            Samples::Histogram(read) => read(measured).iter().try_for_each(|sample| {
                let labels = self.labels_of(sample);
                sample.value.encode(metric.encode_family(&labels.as_slice())?)
            }),
        }
    }

    fn labels_of<'a, T>(&self, sample: &'a Sample<T>) -> Vec<(&'static str, &'a str)> {
        debug_assert_eq!(self.labels.len(), sample.labels.len(), "{}", self.name);
        self.labels.iter().copied().zip(sample.labels.iter().map(String::as_str)).collect()
    }
}

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

/// Everything that samples are read from.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) routing: RoutingAnswer,
    pub(super) failovers: FailoversAnswer,
    pub(super) counters: Arc<Counters>,
    pub(super) dropped_log_lines: u64,
    /// `None` if the operating system does not tell.
    pub(super) process: Option<ProcessStats>,
}

/// The metrics as Prometheus reads them, each with the label `cluster`.
pub(super) fn exposition(measured: Measured, format: Format) -> Result<String, fmt::Error> {
    let cluster = measured.routing.cluster.clone();
    let labels = [(Cow::Borrowed("cluster"), Cow::Owned(cluster))];
    let mut registry = Registry::with_labels(labels.into_iter());
    registry.register_collector(Box::new(measured));
    let mut exposition = String::new();
    match format {
        Format::Prometheus => prometheus_text::encode(&mut exposition, &registry)?,
        Format::OpenMetrics => text::encode(&mut exposition, &registry)?,
    }
    Ok(exposition)
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        GROUPS.iter().flat_map(|group| group.metrics).try_for_each(|metric| metric.encode(&mut encoder, self))
    }
}
