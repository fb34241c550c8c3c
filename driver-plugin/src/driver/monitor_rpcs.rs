//! `Fingerprint`, `InspectTask` and `TaskStats`.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use nomad_plugin_proto::driver::{
    FingerprintResponse, InspectTaskResponse, TaskStatsRequest, TaskStatsResponse,
};
use tokio::time::{MissedTickBehavior, interval};

use super::{Driver, RpcError};
use crate::clock;
use crate::fingerprint::Fingerprint;
use crate::resources::StatsCollector;
use crate::tasks::Task;

/// The interval between two fingerprints.
const FINGERPRINT_INTERVAL: Duration = Duration::from_secs(5);
/// An unchanged fingerprint is sent again after so many intervals.
const REPEAT_AFTER: u32 = 6;
/// The interval of statistics when Nomad sends none: Nomad's default.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

impl Driver {
    /// The health of the host: at once, on each change, and every half minute. The stream never ends, since Nomad
    /// would open it again in a loop.
    pub(super) fn fingerprints(&self) -> impl Stream<Item = FingerprintResponse> + Send + use<> {
        let mut ticks = interval(FINGERPRINT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let driver = self.clone();
        stream::unfold((driver, ticks, None), |(driver, mut ticks, sent)| async move {
            for tick in 1_u32.. {
                ticks.tick().await;
                let taken = Some(driver.take_fingerprint().await);
                if tick == REPEAT_AFTER || taken != sent {
                    let fingerprint = taken.clone()?;
                    return Some((fingerprint.into(), (driver, ticks, taken)));
                }
            }
            None
        })
    }

    async fn take_fingerprint(&self) -> Fingerprint {
        let (program, state_dir) = (self.program.clone(), self.config.plugin().state_dir);
        let taking = tokio::task::spawn_blocking(move || Fingerprint::take(&program, &state_dir));
        taking.await.unwrap_or_else(|error| Fingerprint {
            healthy: false,
            description: format!("the host cannot be examined: {error}"),
            attributes: HashMap::new(),
        })
    }

    /// The state of a task.
    pub(super) fn inspect(&self, id: &str) -> Result<InspectTaskResponse, RpcError> {
        let task = self.task(id)?;
        Ok(InspectTaskResponse::new(task.status(), task.attributes()))
    }

    /// What a task uses: at once, and then at the interval that Nomad asks for. The stream ends with the task.
    pub(super) fn stats(
        &self,
        request: &TaskStatsRequest,
    ) -> Result<impl Stream<Item = TaskStatsResponse> + Send + use<>, RpcError> {
        let task = self.task(&request.task_id)?;
        let requested =
            request.collection_interval.as_ref().and_then(|&interval| Duration::try_from(interval).ok());
        let period = requested.filter(|interval| !interval.is_zero()).unwrap_or(STATS_INTERVAL);
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mhz_per_core = self.config.mhz_per_core();
        let new_collector = move |task: &Task| {
            StatsCollector::new(task.record().cgroups.clone(), task.proxy_pid(), mhz_per_core)
        };
        let collector = new_collector(&task);
        Ok(stream::unfold((task, collector, ticks), move |(task, mut collector, mut ticks)| async move {
            let sample = loop {
                tokio::select! {
                    biased;
                    _ = task.wait() => return None,
                    _ = ticks.tick() => {}
                }
                match collector.sample() {
                    Some(sample) => break sample,
                    // Its supervisor starts the process again, or the task is about to end.
                    None => collector = new_collector(&task),
                }
            };
            let id = task.name().id.clone();
            let response = TaskStatsResponse::new(id, clock::now(), sample.all, sample.by_pid);
            Some((response, (task, collector, ticks)))
        }))
    }
}
