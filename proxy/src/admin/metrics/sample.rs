//! Samples: the values of a metric, each with the values of its labels.

use prometheus_client::metrics::histogram::Histogram;

use super::Measured;

/// Reads the samples of a counter or a gauge.
pub(super) type Numbers = fn(&Measured) -> Vec<Sample<f64>>;
/// Reads the samples of a histogram.
pub(super) type Timings = fn(&Measured) -> Vec<Sample<Histogram>>;

/// A value, with the values of its labels in the order in which the metric names them.
#[derive(Debug)]
pub(super) struct Sample<T> {
    pub(super) labels: Vec<String>,
    pub(super) value: T,
}

/// A sample with these values of labels.
pub(super) fn sample<const N: usize, T>(labels: [&str; N], value: T) -> Sample<T> {
    Sample { labels: labels.map(str::to_owned).into(), value }
}

/// The only sample of a metric without labels.
pub(super) fn one<T>(value: T) -> Vec<Sample<T>> {
    vec![sample([], value)]
}

/// One sample, if there is a value.
pub(super) fn maybe<T>(value: Option<T>) -> Vec<Sample<T>> {
    value.map(|value| sample([], value)).into_iter().collect()
}

/// 1 if something is so, else 0.
pub(super) fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// Milliseconds as seconds.
pub(super) fn seconds(ms: u64) -> f64 {
    number(ms) / 1000.0
}

/// A metric is a float by its format; above 2^53 the last digits are lost, which no graph shows.
#[allow(clippy::cast_precision_loss)]
pub(super) const fn number(value: u64) -> f64 {
    value as f64
}
