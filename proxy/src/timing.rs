//! Histograms of time: how often something took how long.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

/// How often something took how long, in buckets whose upper bounds are in seconds.
#[derive(Clone, Debug)]
pub struct Timing(Histogram);

impl Timing {
    /// For what takes a network some round trips: half a millisecond to some seconds.
    pub fn of_connections() -> Self {
        Self::with_buckets([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0])
    }

    /// For what takes a change of leader: some milliseconds to some minutes.
    pub fn of_leader_changes() -> Self {
        Self::with_buckets([
            0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0,
        ])
    }

    fn with_buckets(bounds: impl IntoIterator<Item = f64>) -> Self {
        Self(Histogram::new(bounds))
    }

    /// It took so long once more.
    pub fn record(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }

    /// How often it was recorded.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        use prometheus_client::{encoding::text, registry::Registry};
        let mut registry = Registry::default();
        registry.register("timing", "Of a test", self.histogram());
        let mut exposition = String::new();
        text::encode(&mut exposition, &registry).unwrap();
        let count = exposition.lines().find_map(|line| line.strip_prefix("timing_count "));
        count.unwrap().parse().unwrap()
    }

    /// The histogram, for the metrics.
    pub fn histogram(&self) -> Histogram {
        self.0.clone()
    }
}
