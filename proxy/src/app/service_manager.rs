//! What systemd is told: readiness, reloads, stopping, where writes go, and that control still answers (`sd_notify(3)`).

use std::convert::Infallible;
use std::env;
use std::future::pending;
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
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceManager {
    listens: bool,
    /// systemd restarts the process if it hears nothing for this long (`WatchdogSec=`).
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one of the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn of_this_process() -> Self {
        Self { listens: env::var_os("NOTIFY_SOCKET").is_some(), watchdog: sd_notify::watchdog_enabled() }
    }

    /// Tells that every address listens, or that a reload has ended.
    pub(super) async fn ready(self) {
        self.notify(NotifyState::Ready.to_string()).await;
    }

    /// Tells that the configuration is being read again. [`Self::ready`] follows.
    pub(super) async fn reloading(self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notify(format!("{}\n{now}", NotifyState::Reloading)).await,
            Err(error) => warn!(%error, "systemd is not told of the reload"),
        }
    }

    /// Tells that the process drains, and then exits.
    pub(super) async fn stopping(self) {
        self.notify(NotifyState::Stopping.to_string()).await;
    }

    /// Sends where writes go whenever that changes, and feeds the watchdog while control answers. Runs until the process
    /// exits.
    pub(super) async fn follow(self, view: ViewHandle, phase: watch::Receiver<Phase>) -> Infallible {
        if !self.listens {
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
                self.notify(NotifyState::Status(&status).to_string()).await;
                sent = status;
            }
            if self.watchdog.is_some() {
                self.notify(NotifyState::Watchdog.to_string()).await;
            }
        }
    }

    /// On another thread and not for long, because sending blocks while the socket's queue is full.
    async fn notify(self, message: String) {
        if !self.listens {
            return;
        }
        let sending = spawn_blocking(move || sd_notify::notify(&[NotifyState::Custom(&message)]));
        match timeout(SEND_TIME, sending).await {
            Ok(Ok(Err(error))) => warn!(%error, "systemd cannot be notified"),
            Ok(_) => {}
            Err(_) => warn!("systemd does not read notifications"),
        }
    }
}
