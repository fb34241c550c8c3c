//! The clients of one setup, on a thread of their own, and the last look at every key after the faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Config;

use crate::client::{Client, Shared, Workload};
use crate::history::History;
use crate::keys::Keys;
use crate::operation::{Answer, Operation, Request};

/// Clients of each endpoint.
const REGISTER_CLIENTS: u64 = 3;
const LIST_CLIENTS: u64 = 2;
/// Keys in use at a time, and for how long.
const REGISTERS: (u32, Duration) = (6, Duration::from_secs(90));
const LISTS: (u32, Duration) = (4, Duration::from_secs(60));
/// Each setup has its own keys, so many apart.
const KEYS_APART: i64 = 1_000_000;
/// How long the last look may take: the cluster is healthy by then.
const LAST_LOOK: Duration = Duration::from_secs(120);

/// The keys of a setup's registers and lists.
pub(crate) fn keys_of(setup: usize) -> Result<[Keys; 2]> {
    let first = i64::try_from(setup)? * KEYS_APART;
    let keys = |(slots, used_for)| Keys { first, slots, used_for };
    Ok([keys(REGISTERS), keys(LISTS)])
}

/// What the clients have recorded.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) operations: Vec<Operation>,
    /// The last state of each group of lists.
    pub(crate) lists: BTreeMap<i64, [Vec<i64>; 2]>,
    /// Connection attempts that failed, by SQLSTATE or kind.
    pub(crate) refused: BTreeMap<String, usize>,
}

/// Running clients.
#[derive(Debug)]
pub(crate) struct Clients {
    shared: Arc<Shared>,
    endpoint: Config,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl Clients {
    /// Starts them. `values` are unique in the whole run.
    pub(crate) fn start(
        origin: Instant,
        (setup, seed): (usize, u64),
        endpoints: &[Config; 2],
        values: &Arc<AtomicI64>,
    ) -> Result<Self> {
        let [registers, lists] = keys_of(setup)?;
        let shared = Arc::new(Shared {
            origin,
            history: History::default(),
            registers,
            lists,
            next_value: Arc::clone(values),
            next_process: AtomicUsize::new(0),
            refused: Mutex::default(),
        });
        // A thread of their own: killing a process blocks the thread that does it.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("clients")
            .enable_all()
            .build()
            .context("starting the clients' thread")?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        for (number, endpoint) in (0..).zip(endpoints) {
            for client in 0..REGISTER_CLIENTS + LIST_CLIENTS {
                let workload = if client < REGISTER_CLIENTS { Workload::Registers } else { Workload::Lists };
                // Clients choose by the seed, too, each differently.
                let seed = seed.wrapping_mul(1000) + number * 100 + client;
                let client = Client::new(&shared, endpoint, workload, seed);
                tasks.push(runtime.spawn(client.run(stopped.clone())));
            }
        }
        let [endpoint, _] = endpoints.clone();
        Ok(Self { shared, endpoint, stop, tasks, runtime: Some(runtime) })
    }

    /// Stops them, reads every key once more, and returns what they have recorded. The last reads are part of it.
    pub(crate) async fn finish(mut self, length: Duration) -> Result<Recorded> {
        self.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            task.await.context("a client has panicked")?;
        }
        let deadline = Instant::now() + LAST_LOOK;
        let mut reader = Client::new(&self.shared, &self.endpoint, Workload::Lists, 0);
        for key in self.shared.registers.all(length) {
            read(&mut reader, key, Request::ConfirmedRead, deadline).await?;
        }
        let mut lists = BTreeMap::new();
        for key in self.shared.lists.all(length) {
            if let Answer::Lists(last) = read(&mut reader, key, Request::ReadLists, deadline).await? {
                lists.insert(key, last);
            }
        }
        let refused = self.shared.refused.lock().clone();
        Ok(Recorded { operations: self.shared.history.take(), lists, refused })
    }
}

async fn read(reader: &mut Client, key: i64, request: Request, deadline: Instant) -> Result<Answer> {
    loop {
        if reader.connect().await
            && let Some(answer) = reader.execute(key, request).await
        {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "{key} could not be read {LAST_LOOK:?} after the end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // To drop a Runtime blocks, which tokio forbids inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
