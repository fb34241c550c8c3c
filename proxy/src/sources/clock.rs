//! The wall clock as a source: a step of it means that this machine may have been paused unnoticed.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use pg_leader_proxy_core::{Moment, Observation};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::clock::StepDetector;

/// How often the clocks are compared.
const INTERVAL: Duration = Duration::from_millis(200);

/// The steps of the wall clock, for sources that must read again after one.
#[derive(Clone, Debug)]
pub struct ClockSteps(Option<watch::Receiver<u64>>);

impl ClockSteps {
    /// A clock that is never stepped.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Waits for the next step.
    pub async fn next(&mut self) {
        if let Some(steps) = &mut self.0
            && steps.changed().await.is_ok()
        {
            return;
        }
        // There is no watcher, or it is gone.
        pending().await
    }
}

/// Watches the wall clock.
#[derive(Debug)]
pub struct ClockWatcher<C> {
    clocks: C,
    observations: mpsc::Sender<Observation>,
    steps: watch::Sender<u64>,
}

impl<C: Fn() -> (Moment, Duration)> ClockWatcher<C> {
    /// A watcher that sends to `observations`. `clocks` reads `CLOCK_BOOTTIME` and the wall clock, such as
    /// [`of_this_machine`](crate::clock::of_this_machine).
    pub fn new(clocks: C, observations: mpsc::Sender<Observation>) -> Self {
        Self { clocks, observations, steps: watch::Sender::new(0) }
    }

    /// The steps from now on.
    pub fn steps(&self) -> ClockSteps {
        ClockSteps(Some(self.steps.subscribe()))
    }

    /// Runs for ever.
    pub async fn run(self) -> Infallible {
        let mut detector = StepDetector::new((self.clocks)());
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let clocks = (self.clocks)();
            if detector.stepped(clocks) {
                let (at, _) = clocks;
                warn!("the wall clock was stepped: nothing is forwarded until the leader is confirmed anew");
                // First, because only what the sources ask for afterwards counts.
                if self.observations.send(Observation::ClockStepped { at }).await.is_err() {
                    return pending().await;
                }
                self.steps.send_modify(|steps| *steps += 1);
            }
        }
    }
}
