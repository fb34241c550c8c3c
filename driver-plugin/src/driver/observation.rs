//! What Nomad looks at: the host's health, the state of a task, and what it uses.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use nomad_plugin_proto::driver::{
    FingerprintResponse, InspectTaskResponse, TaskStatsRequest, TaskStatsResponse,
};
use tokio::time::{MissedTickBehavior, interval};

use super::{Driver, Fault};
use crate::clock;
use crate::fingerprint::Fingerprint;

use crate::resources::{Meter, speed};

/// How often the host is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// After how many looks without a change the same is said again.
const LOOKS_PER_WORD: u32 = 6;
/// How often a task is measured when Nomad does not say.
const SAMPLE: Duration = Duration::from_secs(1);

impl Driver {
    /// The health of the host: at once, on each change, and every half minute. It never ends, for Nomad would open it
    /// again at once, and for ever.
    pub(super) fn fingerprints(&self) -> impl Stream<Item = FingerprintResponse> + Send + use<> {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let driver = self.clone();
        stream::unfold((driver, ticks, None), |(driver, mut ticks, said)| async move {
            for look in 1_u32.. {
                ticks.tick().await;
                let seen = Some(driver.look().await);
                if look == LOOKS_PER_WORD || seen != said {
                    let fingerprint = seen.clone()?;
                    return Some((fingerprint.into(), (driver, ticks, seen)));
                }
            }
            None
        })
    }

    async fn look(&self) -> Fingerprint {
        let (program, state_dir) = (self.program.clone(), self.host.agent().state_dir);
        let looking = tokio::task::spawn_blocking(move || Fingerprint::take(&program, &state_dir));
        looking.await.unwrap_or_else(|error| Fingerprint {
            healthy: false,
            description: format!("the host cannot be looked at: {error}"),
            attributes: BTreeMap::new(),
        })
    }

    /// The state of a task, with every part that Nomad reads.
    pub(super) fn inspect(&self, id: &str) -> Result<InspectTaskResponse, Fault> {
        let task = self.known(id)?;
        Ok(InspectTaskResponse::new(task.status(), task.attributes()))
    }

    /// What a task uses: at once, and then at the interval that Nomad asks for. It ends with the task.
    pub(super) fn stats(
        &self,
        request: &TaskStatsRequest,
    ) -> Result<impl Stream<Item = TaskStatsResponse> + Send + use<>, Fault> {
        let task = self.known(&request.task_id)?;
        let asked =
            request.collection_interval.as_ref().and_then(|&interval| Duration::try_from(interval).ok());
        let period = asked.filter(|interval| !interval.is_zero()).unwrap_or(SAMPLE);
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let record = task.record();
        let speed = speed::mhz_per_core(self.host.topology().as_ref());
        let meter = Meter::new(record.cgroups.clone(), record.relay.pid, speed);
        Ok(stream::unfold((task, meter, ticks), |(task, mut meter, mut ticks)| async move {
            tokio::select! {
                biased;
                _ = task.exit() => return None,
                _ = ticks.tick() => {}
            }
            let usage = meter.sample()?;
            let id = task.name().id.clone();
            let sample = TaskStatsResponse::new(id, clock::now(), (&usage.all).into(), usage.pids());
            Some((sample, (task, meter, ticks)))
        }))
    }
}
