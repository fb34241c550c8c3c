//! Draining: stop accepting clients, wait for the open sessions, and terminate the rest.

use std::time::Duration;

use pg_leader_proxy_core::display::HumanDuration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{error, info};

use super::App;
use super::commands::{Command, Commands};
use super::settings::{admin_address, routes};
use crate::phase::Phase;

/// How long terminated sessions may take to end before the process exits anyway.
const TERMINATE_TIME: Duration = Duration::from_secs(1);
/// How often to check whether the last session has ended.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// The longest drain time; a command for a longer one means this.
const DRAIN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

impl App {
    /// Stops accepting clients, waits up to `patience` for the sessions, and terminates the rest.
    pub(super) async fn drain(&self, patience: Duration, commands: &mut Commands) {
        self.phase.send_replace(Phase::Draining);
        self.service_manager.stopping().await;
        info!(
            sessions = self.counters.open_sessions(),
            drain_timeout = %HumanDuration(patience),
            "draining; a second signal ends the sessions"
        );
        for (route, addr) in routes(&self.config) {
            self.workers.unlisten(route, addr).await;
        }
        self.listening.send_replace(admin_address(&self.config).into_iter().collect());
        if !patience.is_zero() {
            self.wait_for_sessions(patience, commands).await;
        }
        info!(sessions = self.counters.open_sessions(), "stopping");
        self.control.stop().await;
        // A session that has not ended by then is blocked in writing its last message.
        let _ = timeout(TERMINATE_TIME, self.sessions_ended()).await;
    }

    /// Waits until the last session has ended, the time is over, or a command says to stop at once.
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
                    Command::Reload(request) => {
                        info!("ignoring the reload: the process is draining");
                        request.into_iter().for_each(|request| request.answer(Err("the proxy is draining".to_owned())));
                    }
                    Command::Drain(patience) => deadline = deadline.min(after(patience)),
                    Command::Stop => return,
                    Command::SupervisorGone => {
                        error!("the supervisor is gone: terminating the sessions");
                        return;
                    }
                },
            }
        }
    }

    async fn sessions_ended(&self) {
        // A client in a backlog is not counted yet; one that moves between workers is.
        sleep(DRAIN_POLL).await;
        while self.workers.sessions() > 0 {
            sleep(DRAIN_POLL).await;
        }
    }
}
