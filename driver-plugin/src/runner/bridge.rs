//! Connects the proxy to its supervisor while it runs: commands in, events out.

use pg_leader_proxy::app::{self, EventRecord};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::channel::Channel;
use crate::supervisor::protocol::{ProxyCommand, ProxyReport};
use crate::supervisor::{StartError, deadlines};

/// The ends of the connection between proxy and supervisor.
#[derive(Debug)]
pub(super) struct Bridge {
    /// To and from the supervisor.
    pub(super) channel: Channel,
    /// To the proxy. Closing it tells the proxy that its supervisor is gone.
    pub(super) commands: mpsc::Sender<app::SupervisorCommand>,
    /// From the proxy.
    pub(super) events: mpsc::Receiver<EventRecord>,
}

/// The proxy has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Why it failed, if it did.
    pub(super) problem: Option<String>,
}

impl Bridge {
    /// Passes on commands and events until the proxy has ended.
    pub(super) async fn run(mut self, mut ready: oneshot::Receiver<()>, mut ended: oneshot::Receiver<Ended>) {
        let mut starting = true;
        loop {
            // Errors of sending are ignored: when the supervisor is gone, receiving fails too.
            tokio::select! {
                command = self.channel.receive() => match command {
                    Ok(Some(command)) => self.pass_on(&command),
                    Ok(None) | Err(_) => break,
                },
                is_ready = &mut ready, if starting => {
                    starting = false;
                    if is_ready.is_ok() {
                        let _ = self.channel.send(&ProxyReport::Ready).await;
                    }
                }
                Some(event) = self.events.recv() => drop(self.channel.send(&ProxyReport::Event(event)).await),
                ended = &mut ended => return self.send_last(ended.ok()).await,
            }
        }
        drop(self);
        if timeout(deadlines::ABANDONED, ended).await.is_err() {
            exit_process();
        }
    }

    /// A command that does not fit into the queue is dropped: a proxy that obeys no commands is killed.
    fn pass_on(&self, command: &ProxyCommand) {
        let command = match *command {
            ProxyCommand::Drain(limit) => app::SupervisorCommand::Drain(limit),
            ProxyCommand::Reload => app::SupervisorCommand::Reload,
            // These belong to the start.
            ProxyCommand::Run(_) | ProxyCommand::Sockets(_) => return,
        };
        let _ = self.commands.try_send(command);
    }

    async fn send_last(mut self, ended: Option<Ended>) {
        while let Ok(event) = self.events.try_recv() {
            let _ = self.channel.send(&ProxyReport::Event(event)).await;
        }
        if let Some(problem) = ended.and_then(|ended| ended.problem) {
            let _ = self.channel.send(&ProxyReport::Failed(StartError::Transient(problem))).await;
        }
    }
}

/// Ends the process although the proxy in it still runs.
#[expect(clippy::disallowed_methods, reason = "without a supervisor nothing else would stop it")]
fn exit_process() {
    std::process::exit(1);
}
