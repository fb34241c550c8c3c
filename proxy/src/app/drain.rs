//! The end of the process: nobody is accepted any more, the sessions may go on for a while, and the rest is severed.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{error, info};

use super::commands::{Command, Commands};
use super::settings::routes;
use super::{App, Phase};

/// How long severed sessions may take to be gone before the process ends anyway.
const SEVER_TIME: Duration = Duration::from_secs(1);
/// How often the drain looks whether the last session has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// The longest that sessions may go on after an order to drain; longer orders mean this.
const DRAIN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

impl App {
    /// Accepts nobody any more, lets the sessions go on for a while, and severs what is left.
    pub(super) async fn drain(&self, patience: Duration, commands: &mut Commands) {
        self.phase.send_replace(Phase::Draining);
        info!(
            sessions = self.counters.open_sessions(),
            ?patience,
            "draining; a second signal ends the sessions"
        );
        for (route, addr) in routes(&self.config) {
            self.workers.unlisten(route, addr).await;
        }
        if !patience.is_zero() {
            self.wait_for_sessions(patience, commands).await;
        }
        info!(sessions = self.counters.open_sessions(), "stopping");
        self.control.stop().await;
        // What is still there then is blocked in a write of its last words.
        let _ = timeout(SEVER_TIME, self.sessions_ended()).await;
    }

    /// Waits until the last session has ended, the time is over, or somebody wants it to end at once.
    async fn wait_for_sessions(&self, patience: Duration, commands: &mut Commands) {
        let after = |patience: Duration| Instant::now() + patience.min(DRAIN_MAX);
        let mut deadline = after(patience);
        let ended = self.sessions_ended();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                () = &mut ended => return,
                () = sleep_until(deadline) => return,
                command = commands.next() => match command {
                    Command::Reload => info!("a draining process does not read its configuration again"),
                    Command::Drain(patience) => deadline = deadline.min(after(patience)),
                    Command::Stop => return,
                    Command::SupervisorGone => {
                        error!("whoever held this process is gone: the sessions end now");
                        return;
                    }
                },
            }
        }
    }

    async fn sessions_ended(&self) {
        // A client in a backlog is not counted yet, one that goes from one worker to another is.
        sleep(DRAIN_LOOK).await;
        while self.workers.sessions() > 0 {
            sleep(DRAIN_LOOK).await;
        }
    }
}
