//! What keeps the page up to date: samples of the sessions, and streams of the parts of the page.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::history::{History, Sample};
use super::parts::Parts;
use crate::admin::routes::{Admin, Failure};
use crate::clock;

/// How often the sessions are sampled, and the open pages updated.
const PACE: Duration = Duration::from_secs(1);
/// How long one stream may last. The browser then asks for the next.
pub(super) const STREAM_TIME: Duration = Duration::from_secs(3600);
/// The part of the connections that streams may take, so that health checks and scrapes find the others free.
const SHARE: usize = 4;

/// The source of the page and of its updates.
#[derive(Debug)]
pub(in crate::admin) struct Live {
    admin: Admin,
    history: watch::Sender<History>,
    newest: watch::Sender<Arc<Parts>>,
    streams: Arc<Semaphore>,
}

/// An update of an open page, as its script reads it.
#[derive(Serialize)]
struct Update<'a> {
    now: &'a str,
    /// Only if they have changed: they are long and change seldom.
    #[serde(skip_serializing_if = "Option::is_none")]
    failovers: Option<&'a str>,
}

/// One stream of updates.
struct Subscriber {
    newest: watch::Receiver<Arc<Parts>>,
    /// What the page shows, once it was sent.
    shown: Option<Arc<Parts>>,
    _counted: OwnedSemaphorePermit,
}

impl Live {
    /// The page of an address that has at most so many connections.
    pub(in crate::admin) fn new(admin: Admin, connections: usize) -> Self {
        Self {
            admin,
            history: watch::Sender::default(),
            newest: watch::Sender::default(),
            streams: Arc::new(Semaphore::new(connections / SHARE)),
        }
    }

    /// Samples the sessions, and renders the page while somebody looks at it. Runs until the process ends.
    pub(in crate::admin) async fn run(self: Arc<Self>) -> Infallible {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let sample = Sample::of(&self.admin.counters, clock::now());
            self.history.send_modify(|history| history.add(sample));
            if self.newest.receiver_count() > 0 {
                // Without a view there is no news; an open page then says that it is not up to date.
                if let Ok(parts) = self.parts().await {
                    self.newest.send_replace(Arc::new(parts));
                }
            }
        }
    }

    pub(super) fn cluster(&self) -> &str {
        &self.admin.cluster
    }

    /// The parts of the page as they are now.
    pub(super) async fn parts(&self) -> Result<Parts, Failure> {
        let (routing, failovers) = self.admin.answers().await?;
        let clocks = clock::of_this_machine();
        Ok(Parts::render(&routing, &failovers, &self.history.borrow(), clocks)?)
    }

    /// A stream of updates, which begins with the next one; `None` if there are as many as there may be.
    pub(super) fn subscribe(&self) -> Option<impl Stream<Item = Result<Event, axum::Error>> + Send + use<>> {
        let counted = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        let subscriber = Subscriber { newest: self.newest.subscribe(), shown: None, _counted: counted };
        Some(unfold(subscriber, Subscriber::next))
    }
}

impl Subscriber {
    /// Waits for the next update. What a slow reader has missed is not kept for it.
    async fn next(mut self) -> Option<(Result<Event, axum::Error>, Self)> {
        self.newest.changed().await.ok()?;
        let parts = Arc::clone(&self.newest.borrow_and_update());
        let known = self.shown.as_ref().is_some_and(|shown| shown.failovers == parts.failovers);
        let failovers = (!known).then_some(parts.failovers.as_str());
        // As JSON, because the lines of an event must not contain whatever a member's name may contain.
        let event = Event::default().json_data(Update { now: &parts.now, failovers });
        self.shown = Some(parts);
        Some((event, self))
    }
}
