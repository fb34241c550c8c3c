//! The pulse: a timer of a worker that is always due soon while clients arrive, so that no other timer is the next.
//!
//! tokio lets a thread wake itself, with a write to an eventfd and an `epoll_wait` that ends at once, whenever a timer is
//! registered that is due before all others of the thread. Every login has timers for its bounds, and hardly any of them
//! is ever due; without the pulse several of them are the next one at their time.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// How often it beats: more often than any bound of a login is due, and seldom enough to cost nothing.
const BEAT: Duration = Duration::from_millis(50);

/// The pulse of one worker; it rests while nobody arrives.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    wanted: Cell<bool>,
    begin: Notify,
}

impl Pulse {
    /// Keeps it beating for a moment: a client has arrived.
    pub(crate) fn keep(&self) {
        if !self.wanted.replace(true) {
            self.begin.notify_one();
        }
    }

    /// Beats as long as it is kept beating, and waits to begin again.
    pub(crate) async fn beat(&self) {
        loop {
            self.begin.notified().await;
            while self.wanted.take() {
                sleep(BEAT).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn every_arrival_keeps_it_beating_also_one_that_finds_it_at_rest_again() {
        let pulse = Pulse::default();
        let arrivals = async {
            for pause in [Duration::ZERO, BEAT / 2, 3 * BEAT] {
                sleep(pause).await;
                pulse.keep();
                while pulse.wanted.get() {
                    sleep(BEAT / 10).await;
                }
            }
        };
        tokio::select! {
            () = pulse.beat() => unreachable!("it beats for ever"),
            told = timeout(Duration::from_secs(10), arrivals) => told.unwrap(),
        }
    }
}
