//! Reading the configuration again, on a thread of its own: a file system that hangs stops nothing else.

use std::fmt;
use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use crate::config::{Config, ConfigErrors, Origins};
use crate::control_socket::ReloadRequest;
use crate::files::{FileReader, READ_TIME};
use crate::logging::Logging;

type Loaded = Result<Config, ConfigErrors>;

/// How the configuration is read again.
pub struct Reload {
    read: Arc<dyn Fn() -> Loaded + Send + Sync>,
    /// What `read` reads files with.
    files: FileReader,
    pub(super) logging: Option<Logging>,
    requested: bool,
    /// Who asked for the next reading and waits for what comes of it.
    requests: Vec<ReloadRequest>,
    /// The only reading that runs.
    running: Option<Reading>,
}

struct Reading {
    thread: JoinHandle<Loaded>,
    deadline: Instant,
    /// It has taken too long: its reload was refused, and nobody waits for it any more.
    overdue: bool,
    /// Who waits for what comes of it.
    requests: Vec<ReloadRequest>,
}

impl Reload {
    /// Reloads by calling `read`. What is logged stays as it is.
    pub fn new(read: impl Fn() -> Loaded + Send + Sync + 'static) -> Self {
        Self {
            read: Arc::new(read),
            files: FileReader::default(),
            logging: None,
            requested: false,
            requests: Vec::new(),
            running: None,
        }
    }

    /// Reads the same origins again, and lets `logging` follow the configuration in force.
    pub fn from_origins(origins: Origins, logging: Logging) -> Self {
        let files = origins.files.clone();
        Self { files, logging: Some(logging), ..Self::new(move || Config::load(&origins)) }
    }

    /// Asks for a reload, perhaps for somebody who waits for what comes of it. Another one follows the one that is running.
    pub(super) fn request(&mut self, request: Option<ReloadRequest>) {
        self.requested = true;
        self.requests.extend(request);
    }

    /// Waits until a reload was asked for and the configuration is read, and returns who waits for that. It is cancel safe.
    ///
    /// The result is an error if the configuration has errors, cannot be read in time, or an earlier reload is still being
    /// read.
    pub(super) async fn next(&mut self) -> (Result<Config>, Vec<ReloadRequest>) {
        loop {
            match &mut self.running {
                Some(Reading { thread, deadline, overdue, requests }) if !*overdue => {
                    if let Ok(ended) = timeout_at(*deadline, thread).await {
                        let requests = std::mem::take(requests);
                        self.running = None;
                        let loaded = ended.unwrap_or_else(|panic| resume_unwind(panic.into_panic()));
                        return (loaded.map_err(Into::into), requests);
                    }
                    *overdue = true;
                    let requests = std::mem::take(requests);
                    return (Err(self.files.hangs().into()), requests);
                }
                _ if !self.requested => pending().await,
                Some(Reading { thread, .. }) if !thread.is_finished() => {
                    self.requested = false;
                    let waits = anyhow!("an earlier reload still waits for {}", self.files.waits_for());
                    return (Err(waits), std::mem::take(&mut self.requests));
                }
                Some(_) | None => {
                    self.requested = false;
                    let read = Arc::clone(&self.read);
                    let thread = spawn_blocking(move || read());
                    let deadline = Instant::now() + READ_TIME;
                    let requests = std::mem::take(&mut self.requests);
                    self.running = Some(Reading { thread, deadline, overdue: false, requests });
                }
            }
        }
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}
