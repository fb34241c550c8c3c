//! A runtime on its own thread, so that links, writers and watches go on while a test blocks its thread.

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// A one-thread runtime that can be dropped anywhere, also inside another runtime.
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

    pub(crate) fn handle(&self) -> Result<&Handle> {
        self.0.as_ref().map(Runtime::handle).context("the runtime has ended")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // To drop a Runtime blocks, which tokio forbids inside another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
