//! New connections while a task is replaced, has crashed, or has no plugin: they wait and are not refused.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nomad_plugin_proto::driver::{DestroyTaskRequest, StopTaskRequest};

use crate::harness::{Job, Plugin, connects, recover, signal, until, wait};

/// Opens a new connection every 5 ms.
pub(crate) struct Clients {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Vec<ErrorKind>>,
}

impl Clients {
    pub(crate) fn of(address: SocketAddr) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let thread = thread::spawn(move || {
            let mut failures = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let connected = TcpStream::connect_timeout(&address, Duration::from_secs(3));
                failures.extend(connected.err().map(|error| error.kind()));
                thread::sleep(Duration::from_millis(5));
            }
            failures
        });
        Self { enough, thread }
    }

    pub(crate) fn failures(self) -> Vec<ErrorKind> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

pub(crate) fn stop(job: &Job) -> StopTaskRequest {
    let timeout = Some(prost_types::Duration::try_from(Duration::from_secs(5)).unwrap());
    StopTaskRequest { task_id: job.id(), timeout, signal: String::new() }
}

#[tokio::test]
async fn replacing_a_task_loses_no_client() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let clients = Clients::of(job.address());
    for crash in [false, true] {
        let before = job.id();
        if crash {
            signal(&plugin, &job, "SIGABRT").await;
            wait(&plugin, &before).await;
        } else {
            plugin.driver().stop_task(stop(&job)).await.unwrap();
        }
        // Nomad destroys a task before it starts the next one.
        plugin.driver().destroy_task(DestroyTaskRequest { task_id: before, force: true }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        job.next_run();
        job.start(&plugin).await.unwrap();
    }
    assert_eq!(clients.failures(), []);
}

#[tokio::test]
async fn replacing_the_plugin_loses_no_client() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let handle = job.start(&plugin).await.unwrap();
    let clients = Clients::of(job.address());
    plugin.crash().await;
    let plugin = Plugin::start(&job.state_dir()).await;
    recover(&plugin, handle).await;
    assert_eq!(clients.failures(), []);
}

#[tokio::test]
async fn after_the_last_task_nothing_listens() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    plugin.driver().stop_task(stop(&job)).await.unwrap();
    plugin.driver().destroy_task(DestroyTaskRequest { task_id: job.id(), force: true }).await.unwrap();
    until("the address is free", || !connects(job.address())).await;
}
