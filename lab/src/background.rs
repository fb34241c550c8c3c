//! A runtime on a thread of its own, so that relays, watchers and writers keep time while a test blocks.

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// A one-thread runtime that may be dropped anywhere, also inside another runtime.
#[derive(Debug)]
pub(crate) struct Background(Option<Runtime>);

impl Background {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .with_context(|| format!("starting the runtime {name}"))?;
        Ok(Self(Some(runtime)))
    }

    /// `None` only while being dropped, so callers may treat it as a failure to start.
    pub(crate) fn handle(&self) -> Result<&Handle> {
        self.0.as_ref().map(Runtime::handle).context("the runtime has ended")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A plain drop would block, which tokio forbids inside a runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
