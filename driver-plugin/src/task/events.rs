//! Sentences for the owners of tasks, on their way to Nomad's list of task events.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::stream::{self, Stream};
use nomad_plugin_proto::driver::DriverTaskEvent;
use pg_leader_proxy::app::EventRecord;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::clock;
use crate::supervisor::TaskName;

/// How many sentences may wait while no agent listens. The news of a relay do not wait here but with its supervisor.
const WAITING_MAX: usize = 64;

/// The way to whichever agent listens.
#[derive(Clone, Debug)]
pub struct Events {
    occasions: mpsc::Sender<Occasion>,
    waiting: Arc<Mutex<mpsc::Receiver<Occasion>>>,
}

/// An event, and whom to tell that an agent has taken it.
#[derive(Debug)]
struct Occasion {
    event: DriverTaskEvent,
    taken: oneshot::Sender<()>,
}

impl Default for Events {
    fn default() -> Self {
        let (occasions, waiting) = mpsc::channel(WAITING_MAX);
        Self { occasions, waiting: Arc::new(Mutex::new(waiting)) }
    }
}

impl Events {
    /// Tells something that the plugin itself has found. When too much waits already, it is only logged.
    pub fn tell(&self, task: &TaskName, message: String) {
        tracing::warn!(task_id = task.id, "{message}");
        let (taken, _) = oneshot::channel();
        let event = event(task, clock::now(), message);
        // No room: nobody has listened for long, and the log line has to do.
        let _ = self.occasions.try_send(Occasion { event, taken });
    }

    /// Tells what the relay said at `at`, and returns when an agent has taken it, which can take for ever.
    pub async fn deliver(&self, task: &TaskName, at: SystemTime, news: EventRecord) {
        let (taken, delivered) = oneshot::channel();
        let mut event = event(task, at, news.message);
        event.annotations.extend(news.annotations);
        if self.occasions.send(Occasion { event, taken }).await.is_ok() {
            // An error means that the stream ended with the event in its hands; it is not sent twice.
            let _ = delivered.await;
        }
    }

    /// Everything that is told from now on, and whatever waits. The stream never ends: Nomad would open it again at
    /// once, and for ever. While one stream is read, others wait for its end.
    pub fn stream(&self) -> impl Stream<Item = DriverTaskEvent> + Send + use<> {
        let waiting = Arc::clone(&self.waiting);
        let locked = stream::once(async move { waiting.lock_owned().await });
        let events = futures_util::StreamExt::flat_map(locked, |waiting| {
            stream::unfold(waiting, |mut waiting| async move {
                let Occasion { event, taken } = waiting.recv().await?;
                // Whoever told it may not want to know.
                let _ = taken.send(());
                Some((event, waiting))
            })
        });
        futures_util::StreamExt::chain(events, stream::pending())
    }
}

fn event(task: &TaskName, at: SystemTime, message: String) -> DriverTaskEvent {
    DriverTaskEvent::new(task.id.clone(), task.alloc_id.clone(), task.name.clone(), at, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    fn task() -> TaskName {
        TaskName { id: "a/t/1".into(), alloc_id: "a".into(), name: "t".into() }
    }

    #[tokio::test]
    async fn what_was_told_before_anybody_listened_is_not_lost() {
        let events = Events::default();
        events.tell(&task(), "early".into());
        let event = events.stream().boxed().next().await.unwrap();
        assert_eq!((event.message.as_str(), event.task_id.as_str()), ("early", "a/t/1"));
        assert!(event.timestamp.unwrap().seconds > 0);
    }

    #[tokio::test]
    async fn pitfall_05_the_stream_stays_open_and_the_next_one_goes_on() {
        let events = Events::default();
        let mut first = events.stream().boxed();
        let mut second = events.stream().boxed();
        assert!(first.next().now_or_never().is_none() && second.next().now_or_never().is_none());
        drop(first);
        events.tell(&task(), "after".into());
        let event = tokio::time::timeout(Duration::from_secs(5), second.next()).await.unwrap().unwrap();
        assert_eq!(event.message, "after");
    }

    #[tokio::test]
    async fn a_delivery_is_over_when_an_agent_has_taken_it() {
        let events = Events::default();
        let task = task();
        let news = EventRecord {
            kind: "leader".into(),
            message: "a leads".into(),
            annotations: [("member".to_owned(), "a".to_owned())].into(),
        };
        let mut delivery = Box::pin(events.deliver(&task, SystemTime::UNIX_EPOCH, news));
        assert!((&mut delivery).now_or_never().is_none(), "nobody listens");
        let mut stream = events.stream().boxed();
        let event = stream.next().await.unwrap();
        assert_eq!((event.timestamp.unwrap().seconds, event.message.as_str()), (0, "a leads"));
        assert_eq!(event.annotations["member"], "a");
        tokio::time::timeout(Duration::from_secs(5), delivery).await.unwrap();
    }
}
