//! A client: it keeps one session with its endpoint, does one operation after the other, and records each.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use lab::Session;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_postgres::Config;

use crate::history::History;
use crate::keys::Keys;
use crate::operation::{Answer, Operation, Outcome, Request};
use crate::statements;

/// A client gives up a connection attempt after this, and tries again. Longer than the proxy holds a client.
const CONNECT: Duration = Duration::from_secs(40);
/// How long a client waits for an answer. Then the outcome is unknown.
const ANSWER: Duration = Duration::from_secs(8);
const AFTER_FAILURE: Duration = Duration::from_millis(20);

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Reads, writes and compares-and-sets registers.
    Registers,
    /// Appends to lists, and reads them.
    Lists,
}

/// What the clients of a setup share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) origin: Instant,
    pub(crate) history: History,
    pub(crate) registers: Keys,
    pub(crate) lists: Keys,
    /// The next value or id, unique in the whole run: a value says who wrote it.
    pub(crate) next_value: Arc<AtomicI64>,
    pub(crate) next_process: AtomicUsize,
    /// Connection attempts that failed, by SQLSTATE or kind.
    pub(crate) refused: Mutex<std::collections::BTreeMap<String, usize>>,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    shared: Arc<Shared>,
    endpoint: Config,
    workload: Workload,
    rng: Rng,
    process: usize,
    session: Option<Session>,
    /// The register that was used last, and its value as far as this client knows it: what it compares with.
    seen: (i64, i64),
}

impl Client {
    pub(crate) fn new(shared: &Arc<Shared>, endpoint: &Config, workload: Workload, seed: u64) -> Self {
        let process = shared.next_process.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(shared),
            endpoint: endpoint.clone(),
            workload,
            rng: Rng::with_seed(seed),
            process,
            session: None,
            seen: (0, 0),
        }
    }

    /// Works until it is told to stop. An operation in progress is finished, or becomes unknown.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let ready = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                ready = self.connect() => ready,
            };
            let pause = if ready {
                let (key, request) = self.choose();
                self.execute(key, request).await;
                match self.workload {
                    Workload::Registers => Duration::from_millis(self.rng.u64(10..110)),
                    Workload::Lists => Duration::from_millis(self.rng.u64(50..350)),
                }
            } else {
                AFTER_FAILURE
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Makes sure that there is a session.
    pub(crate) async fn connect(&mut self) -> bool {
        if self.session.is_some() {
            return true;
        }
        match tokio::time::timeout(CONNECT, Session::open(&self.endpoint)).await {
            Ok(Ok(session)) => self.session = Some(session),
            Ok(Err(error)) => self.refused(error.code().map_or("no session", |state| state.code())),
            Err(_) => self.refused("no answer"),
        }
        self.session.is_some()
    }

    fn refused(&self, why: &str) {
        *self.shared.refused.lock().entry(why.to_owned()).or_default() += 1;
    }

    fn choose(&mut self) -> (i64, Request) {
        let keys = match self.workload {
            Workload::Registers => self.shared.registers,
            Workload::Lists => self.shared.lists,
        };
        let key = keys.at(self.rng.u32(..keys.slots), self.shared.origin.elapsed());
        (key, self.request(key))
    }

    fn request(&mut self, key: i64) -> Request {
        let choice = self.rng.u8(..10);
        if self.workload == Workload::Lists {
            return match choice {
                0..4 => Request::ReadLists,
                4..6 => Request::Append { id: self.value(), lists: [true, true] },
                6..8 => Request::Append { id: self.value(), lists: [true, false] },
                _ => Request::Append { id: self.value(), lists: [false, true] },
            };
        }
        match choice {
            0..3 => Request::Read,
            3..5 => Request::ConfirmedRead,
            // A compare-and-set needs to know what the register may hold.
            5..7 if self.seen.0 == key => {
                Request::CompareAndSet { expected: self.seen.1, value: self.value() }
            }
            _ => Request::Write(self.value()),
        }
    }

    fn value(&self) -> i64 {
        self.shared.next_value.fetch_add(1, Ordering::Relaxed)
    }

    /// Does one operation over the open session and records it.
    pub(crate) async fn execute(&mut self, key: i64, request: Request) -> Option<Answer> {
        let session = self.session.take()?;
        let invoked = self.shared.origin.elapsed();
        let execution = statements::execute(&session, key, request);
        let outcome = match tokio::time::timeout(ANSWER, execution).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Unknown(format!("no answer within {ANSWER:?}")),
        };
        let completed = self.shared.origin.elapsed();
        let process = self.process;
        let answer = match &outcome {
            Outcome::Acknowledged { answer, .. } => {
                self.session = Some(session);
                self.seen = (key, known_value(request, answer).unwrap_or_default());
                Some(answer.clone())
            }
            Outcome::Failed(_) => None,
            Outcome::Unknown(_) => {
                self.process = self.shared.next_process.fetch_add(1, Ordering::Relaxed);
                None
            }
        };
        self.shared.history.record(Operation { process, key, request, invoked, completed, outcome });
        answer
    }
}

fn known_value(request: Request, answer: &Answer) -> Option<i64> {
    match (request, answer) {
        (_, Answer::Value(value)) => Some(*value),
        (Request::Write(value), Answer::Done)
        | (Request::CompareAndSet { value, .. }, Answer::Swapped(true)) => Some(value),
        (_, Answer::Done | Answer::Swapped(_) | Answer::Lists(_)) => None,
    }
}
