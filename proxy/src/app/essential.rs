//! What the process cannot go on without: its tasks, and the threads of its workers.

use std::convert::Infallible;
use std::pin::Pin;

use tokio::task::{Id, JoinSet};

/// The tasks that run until the process exits, and a watch over the workers' threads.
pub(super) struct Essential {
    tasks: JoinSet<Infallible>,
    names: Vec<(Id, &'static str)>,
    thread: Pin<Box<dyn Future<Output = String>>>,
}

impl Essential {
    /// Nothing but the threads, with a future that tells which of them has panicked.
    pub(super) fn new(thread: impl Future<Output = String> + 'static) -> Self {
        Self { tasks: JoinSet::new(), names: Vec::new(), thread: Box::pin(thread) }
    }

    /// Runs a task that never finishes.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Infallible> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.names.push((id, name));
    }

    /// Waits until one of them has panicked; a restart is better than running without it. It is cancel safe.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        let failed = tokio::select! {
            Some(ended) = self.tasks.join_next_with_id() => {
                let Err(error) = ended;
                let name = self.names.iter().find(|(id, _)| *id == error.id()).map_or("?", |(_, name)| *name);
                format!("the task {name}")
            }
            thread = &mut self.thread => format!("the thread {thread}"),
        };
        anyhow::anyhow!("{failed} panicked, and the proxy does not go on without it")
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_named() {
        let mut essential = Essential::new(pending());
        essential.spawn("probes", pending());
        essential.spawn("control", async { panic!("a fault in control") });
        let error = essential.failed().await.to_string();
        assert!(error.starts_with("the task control panicked"), "{error}");
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_named() {
        let mut essential = Essential::new(ready("worker-0".to_owned()));
        essential.spawn("control", pending());
        let error = essential.failed().await.to_string();
        assert!(error.starts_with("the thread worker-0 panicked"), "{error}");
    }
}
