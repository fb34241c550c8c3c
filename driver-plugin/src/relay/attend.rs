//! The relay's conversation with its supervisor while it is the proxy: orders in, news out.

use std::time::Duration;

use pg_leader_proxy::app::{self, EventRecord};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::supervisor::StartError;
use crate::supervisor::channel::Channel;
use crate::supervisor::protocol::{Order, Report};

/// How long the proxy may take to end when its supervisor is gone: more than it takes to sever every session.
const ABANDONED_TIME: Duration = Duration::from_secs(3);

/// The ends that the supervisor's side of the relay holds.
#[derive(Debug)]
pub(super) struct Attendant {
    /// To and from the supervisor.
    pub(super) channel: Channel,
    /// To the proxy. Its end tells the proxy that the supervisor is gone.
    pub(super) orders: mpsc::Sender<app::SupervisorCommand>,
    /// From the proxy.
    pub(super) news: mpsc::Receiver<EventRecord>,
}

/// The proxy has ended.
#[derive(Debug)]
pub(super) struct Ending {
    /// Why, if it was not told to.
    pub(super) problem: Option<String>,
}

impl Attendant {
    /// Passes orders and news until the proxy has ended.
    pub(super) async fn attend(
        mut self,
        mut up: oneshot::Receiver<()>,
        mut ending: oneshot::Receiver<Ending>,
    ) {
        let mut starting = true;
        loop {
            // What cannot be sent is not missed: the supervisor is gone, which the next receipt tells.
            tokio::select! {
                order = self.channel.receive() => match order {
                    Ok(Some(order)) => self.obey(&order),
                    Ok(None) | Err(_) => break,
                },
                is_up = &mut up, if starting => {
                    starting = false;
                    if is_up.is_ok() {
                        let _ = self.channel.send(&Report::Up).await;
                    }
                }
                Some(news) = self.news.recv() => drop(self.channel.send(&Report::News(news)).await),
                ended = &mut ending => return self.say_last(ended.ok()).await,
            }
        }
        drop(self);
        if timeout(ABANDONED_TIME, ending).await.is_err() {
            abandon();
        }
    }

    /// An order that the proxy has no room for is one of many that it does not obey: it will be killed.
    fn obey(&self, order: &Order) {
        let order = match *order {
            Order::Drain(patience) => app::SupervisorCommand::Drain(patience),
            Order::Reload => app::SupervisorCommand::Reload,
            // They belong to the time before it was the proxy.
            Order::Settle(_) | Order::Sockets(_) => return,
        };
        let _ = self.orders.try_send(order);
    }

    async fn say_last(mut self, ending: Option<Ending>) {
        while let Ok(news) = self.news.try_recv() {
            let _ = self.channel.send(&Report::News(news)).await;
        }
        if let Some(problem) = ending.and_then(|ending| ending.problem) {
            let _ = self.channel.send(&Report::NotStarted(StartError::Transient(problem))).await;
        }
    }
}

/// Ends the process although the proxy in it does not.
#[expect(clippy::disallowed_methods, reason = "nobody could stop it any more, and its main thread does not")]
fn abandon() {
    std::process::exit(1);
}
