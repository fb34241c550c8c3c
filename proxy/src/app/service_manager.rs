//! What systemd is told: readiness, reloads, stopping, where writes go, and that control still answers (`sd_notify(3)`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::env;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;

use crate::control::ViewHandle;
use crate::phase::Phase;

/// How often the status is compared with what was sent last.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How long control may take to answer. It takes microseconds; while it does not answer, the watchdog is not fed.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// How long to wait for a notification to be taken.
const SEND_TIME: Duration = Duration::from_secs(1);

/// systemd, if it started this process and wants to be told. The default is a process that nobody listens to.
///
/// Clones share one queue of notifications.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager {
    /// What is still to be sent; `None` if nobody listens.
    notifications: Option<Arc<watch::Sender<Notifications>>>,
    /// systemd restarts the process if it hears nothing for this long (`WatchdogSec=`).
    watchdog: Option<Duration>,
}

/// What systemd is still to be told, and whether a thread is telling it.
#[derive(Debug, Default)]
struct Notifications {
    /// In the order of sending; of each kind only the latest.
    waiting: VecDeque<(Kind, String)>,
    /// The only thread that sends is at work. It hangs while systemd does not read.
    sending: bool,
    /// It has taken too long, which was logged. Nobody waits for it once more.
    overdue: bool,
}

/// The kinds of notifications. A later one replaces one of its kind that was not sent yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ready,
    Reloading,
    Stopping,
    Status,
    Watchdog,
}

impl ServiceManager {
    /// The one of the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn of_this_process() -> Self {
        let notifications = env::var_os("NOTIFY_SOCKET").map(|_| Arc::default());
        Self { notifications, watchdog: sd_notify::watchdog_enabled() }
    }

    /// Tells that every address listens, or that a reload has ended.
    pub(super) async fn ready(&self) {
        self.notify(Kind::Ready, NotifyState::Ready.to_string()).await;
    }

    /// Tells that the configuration is being read again. [`Self::ready`] follows.
    pub(super) async fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notify(Kind::Reloading, format!("{}\n{now}", NotifyState::Reloading)).await,
            Err(error) => warn!(%error, "systemd is not told of the reload"),
        }
    }

    /// Tells that the process drains, and then exits.
    pub(super) async fn stopping(&self) {
        self.notify(Kind::Stopping, NotifyState::Stopping.to_string()).await;
    }

    /// Sends where writes go whenever that changes, and feeds the watchdog while control answers. Runs until the process
    /// exits.
    pub(super) async fn follow(self, view: ViewHandle, phase: watch::Receiver<Phase>) -> Infallible {
        if self.notifications.is_none() {
            return pending().await;
        }
        // At least twice in the watchdog's time, as sd_watchdog_enabled(3) recommends.
        let pace = self.watchdog.map_or(STATUS_INTERVAL, |limit| STATUS_INTERVAL.min(limit / 2));
        let mut ticks = interval(pace.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = String::new();
        loop {
            ticks.tick().await;
            let Ok(Some(view)) = timeout(ANSWER_TIME, view.view()).await else { continue };
            let status = match *phase.borrow() {
                Phase::Serving => view.summary(),
                Phase::Draining => "draining: no new sessions are accepted".to_owned(),
            };
            if status != sent {
                self.notify(Kind::Status, NotifyState::Status(&status).to_string()).await;
                sent = status;
            }
            if self.watchdog.is_some() {
                self.notify(Kind::Watchdog, NotifyState::Watchdog.to_string()).await;
            }
        }
    }

    /// Sends a notification, and waits until it was taken, though not for long.
    async fn notify(&self, kind: Kind, message: String) {
        let Some(notifications) = &self.notifications else { return };
        if notifications.send_if_modified(|known| known.add(kind, message)) {
            let notifications = Arc::clone(notifications);
            // On a thread, because sending blocks while the socket's queue is full.
            spawn_blocking(move || send_all(&notifications));
        }
        let mut seen = notifications.subscribe();
        let over = seen.wait_for(|known| !known.sending || known.overdue);
        let late = timeout(SEND_TIME, over).await.is_err();
        if late && notifications.send_if_modified(Notifications::become_overdue) {
            warn!("systemd does not read notifications");
        }
    }
}

impl Notifications {
    /// Adds a notification as the last one. Returns whether a thread must be started to send it.
    fn add(&mut self, kind: Kind, message: String) -> bool {
        self.waiting.retain(|(waits, _)| *waits != kind);
        self.waiting.push_back((kind, message));
        !std::mem::replace(&mut self.sending, true)
    }

    /// The next one to send. If there is none, the thread that sends ends.
    fn take_next(&mut self) -> Option<String> {
        let next = self.waiting.pop_front().map(|(_, message)| message);
        self.sending = next.is_some();
        self.overdue &= self.sending;
        next
    }

    /// Sending takes too long. Returns whether that is news.
    const fn become_overdue(&mut self) -> bool {
        self.sending && !std::mem::replace(&mut self.overdue, true)
    }
}

/// Sends what waits, and what comes meanwhile.
fn send_all(notifications: &watch::Sender<Notifications>) {
    let next = || {
        let mut next = None;
        notifications.send_modify(|known| next = known.take_next());
        next
    };
    while let Some(message) = next() {
        if let Err(error) = sd_notify::notify(&[NotifyState::Custom(&message)]) {
            warn!(%error, "systemd cannot be notified");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_sends_the_latest_of_each_kind_in_the_order_of_their_coming() {
        let mut notifications = Notifications::default();
        let mut add = |kind, message: &str| notifications.add(kind, message.to_owned());
        assert!(add(Kind::Ready, "ready"), "a thread is needed");
        for times in 0..100 {
            for (kind, name) in
                [(Kind::Reloading, "reloading"), (Kind::Ready, "ready"), (Kind::Watchdog, "alive")]
            {
                assert!(!add(kind, &format!("{name} {times}")), "one thread is enough");
            }
        }
        let sent: Vec<String> = std::iter::from_fn(|| notifications.take_next()).collect();
        assert_eq!(sent, ["reloading 99", "ready 99", "alive 99"]);
        assert!(notifications.add(Kind::Stopping, "stopping".to_owned()), "the thread has ended");
    }
}
