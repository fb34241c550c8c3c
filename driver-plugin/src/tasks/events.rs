//! Task events: what Nomad shows in `nomad alloc status`.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::stream::{self, Stream, StreamExt as _};
use nomad_plugin_proto::driver::DriverTaskEvent;
use pg_leader_proxy::app::EventRecord;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::clock;
use crate::supervisor::TaskName;

/// How many events may wait while no agent reads them. Those of a proxy wait in its supervisor.
const EVENTS_MAX: usize = 64;

/// The queue of events for the agent. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct TaskEvents {
    queue: mpsc::Sender<Pending>,
    reader: Arc<Mutex<mpsc::Receiver<Pending>>>,
}

#[derive(Debug)]
struct Pending {
    event: DriverTaskEvent,
    taken: oneshot::Sender<()>,
}

impl Default for TaskEvents {
    fn default() -> Self {
        let (queue, reader) = mpsc::channel(EVENTS_MAX);
        Self { queue, reader: Arc::new(Mutex::new(reader)) }
    }
}

impl TaskEvents {
    /// Queues a warning of the plugin, and logs it. When the queue is full it is only logged.
    pub fn warn(&self, task: &TaskName, message: String) {
        tracing::warn!(task_id = task.id, "{message}");
        let (taken, _) = oneshot::channel();
        let _ = self.queue.try_send(Pending { event: event(task, clock::now(), message), taken });
    }

    /// Queues an event of the proxy, and returns when an agent has taken it. Without an agent it waits for ever.
    pub async fn deliver(&self, task: &TaskName, at: SystemTime, proxy_event: EventRecord) {
        let (taken, delivered) = oneshot::channel();
        let mut event = event(task, at, proxy_event.message);
        event.annotations.extend(proxy_event.annotations);
        if self.queue.send(Pending { event, taken }).await.is_ok() {
            // It fails when the stream ends before the agent has read the event, which is not sent twice.
            let _ = delivered.await;
        }
    }

    /// The queued events and all that follow. The stream never ends, since Nomad would open it again in a loop. Of
    /// several streams, the second begins when the first is dropped.
    pub fn stream(&self) -> impl Stream<Item = DriverTaskEvent> + Send + use<> {
        let reader = Arc::clone(&self.reader);
        let locked = stream::once(async move { reader.lock_owned().await });
        let events = locked.flat_map(|reader| {
            stream::unfold(reader, |mut reader| async move {
                let Pending { event, taken } = reader.recv().await?;
                // Nobody waits for a warning.
                let _ = taken.send(());
                Some((event, reader))
            })
        });
        events.chain(stream::pending())
    }
}

fn event(task: &TaskName, at: SystemTime, message: String) -> DriverTaskEvent {
    DriverTaskEvent::new(task.id.clone(), task.alloc_id.clone(), task.name.clone(), at, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn task() -> TaskName {
        TaskName { id: "a/t/1".into(), alloc_id: "a".into(), name: "t".into() }
    }

    #[tokio::test]
    async fn an_event_before_the_first_stream_is_not_lost() {
        let events = TaskEvents::default();
        events.warn(&task(), "early".into());
        let event = events.stream().boxed().next().await.unwrap();
        assert_eq!((event.message.as_str(), event.task_id.as_str()), ("early", "a/t/1"));
        assert!(event.timestamp.unwrap().seconds > 0);
    }

    #[tokio::test]
    async fn pitfall_05_the_stream_stays_open_and_the_next_one_continues() {
        let events = TaskEvents::default();
        let mut first = events.stream().boxed();
        let mut second = events.stream().boxed();
        assert!(first.next().now_or_never().is_none() && second.next().now_or_never().is_none());
        drop(first);
        events.warn(&task(), "after".into());
        let event = tokio::time::timeout(Duration::from_secs(5), second.next()).await.unwrap().unwrap();
        assert_eq!(event.message, "after");
    }

    #[tokio::test]
    async fn an_event_is_delivered_when_an_agent_has_taken_it() {
        let events = TaskEvents::default();
        let task = task();
        let leader = EventRecord {
            kind: "leader".into(),
            message: "a leads".into(),
            annotations: [("member".to_owned(), "a".to_owned())].into(),
        };
        let mut delivery = Box::pin(events.deliver(&task, SystemTime::UNIX_EPOCH, leader));
        assert!((&mut delivery).now_or_never().is_none(), "nobody reads");
        let mut stream = events.stream().boxed();
        let event = stream.next().await.unwrap();
        assert_eq!((event.timestamp.unwrap().seconds, event.message.as_str()), (0, "a leads"));
        assert_eq!(event.annotations["member"], "a");
        tokio::time::timeout(Duration::from_secs(5), delivery).await.unwrap();
    }
}
