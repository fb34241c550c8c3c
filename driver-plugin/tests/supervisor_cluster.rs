//! Supervised relays in front of a real cluster: news that wait for a plugin, and tasks that follow each other.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lab::{Cluster, ClusterOptions, Failure, MONITOR, NewClients, Session};
use nomad_driver_pg_leader_proxy::resources::Cgroups;
use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{Base, Found, Launch, Record, Supervisor, TaskName};
use tempfile::TempDir;
use tokio::time::timeout;

/// Beyond anything that a healthy step takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// How often a client comes. Each logs in and writes, and the machine may be busy.
const EVERY: Duration = Duration::from_millis(100);

/// A cluster of one member, and a place for supervisors.
struct Scene {
    cluster: Cluster,
    directory: TempDir,
    base: Base,
    started: Mutex<Vec<Record>>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        for record in self.started.lock().unwrap().iter() {
            let _ = record.supervisor.signal(Signal::KILL.raw());
            let _ = record.relay.signal(Signal::KILL.raw());
        }
    }
}

impl Scene {
    async fn start() -> Self {
        let setup = ClusterOptions { members: 1, max_connections: 500, ..ClusterOptions::default() };
        let cluster = Cluster::start(setup).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let base = Base {
            executable: PathBuf::from(env!("CARGO_BIN_EXE_nomad-driver-pg-leader-proxy")),
            state_dir: directory.path().join("state"),
        };
        Self { cluster, directory, base, started: Mutex::default() }
    }

    async fn run(&self, run: &str) -> Supervisor {
        let file = self.directory.path().join("proxy.toml");
        fs::write(&file, self.cluster.proxy_config("relay").unwrap()).unwrap();
        let log = self.directory.path().join("log");
        fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
        let launch = Launch {
            task: TaskName {
                id: format!("0a1b/proxy/{run}"),
                alloc_id: "0a1b".to_owned(),
                name: "proxy".to_owned(),
            },
            settings: Vec::new(),
            environment: BTreeMap::from([
                ("PGLP_CONFIG".to_owned(), file.to_str().unwrap().to_owned()),
                ("PGLP_PROBE_PASSWORD".to_owned(), MONITOR.password.to_owned()),
            ]),
            directory: self.directory.path().to_owned(),
            stdout: PathBuf::from("/dev/null"),
            stderr: log.clone(),
            user: None,
            cgroups: Cgroups::default(),
            oom_score_adj: 0,
            keep_listening: Duration::from_secs(20),
        };
        let started = Supervisor::start(&self.base, launch).await;
        let started =
            started.unwrap_or_else(|error| panic!("{error}; the log: {}", fs::read_to_string(log).unwrap()));
        self.started.lock().unwrap().push(started.record().clone());
        started
    }

    async fn session(&self) -> Session {
        let write = self.cluster.proxy_addresses("relay").unwrap().write;
        Session::open_within(&self.cluster.app_config(write), SOON).await.unwrap()
    }

    fn new_clients(&self) -> NewClients {
        let load = self.cluster.load(self.cluster.proxy_addresses("relay").unwrap().write);
        NewClients::start(load, EVERY).unwrap()
    }
}

/// Another plugin's hold on the task.
async fn again(supervisor: &Supervisor) -> Supervisor {
    match Supervisor::reconnect(supervisor.record()).await.unwrap() {
        Found::Running(supervisor) => supervisor,
        Found::Ended(exit) => panic!("it ended: {exit:?}"),
    }
}

#[tokio::test]
async fn a_supervised_relay_in_front_of_a_cluster() {
    let scene = Scene::start().await;
    news_wait_for_the_plugin_that_passes_them_on(&scene).await;
    a_task_that_follows_another_one_loses_no_client(&scene).await;
    a_crash_refuses_nobody(&scene).await;
}

async fn news_wait_for_the_plugin_that_passes_them_on(scene: &Scene) {
    let supervisor = scene.run("1").await;
    let session = scene.session().await;
    let mut news = supervisor.news().await.unwrap();
    let told = timeout(SOON, news.next()).await.unwrap().unwrap();
    assert_eq!((told.number, told.news.kind.as_str()), (1, "leader"), "{told:?}");
    assert!(told.news.message.contains("leader is a"), "{told:?}");
    assert_eq!(told.news.annotations["member"], "a");

    // The plugin dies before it has passed it on; the next one does, and dies as well.
    drop((news, supervisor.clone()));
    let second = again(&supervisor).await;
    let mut news = second.news().await.unwrap();
    assert_eq!(timeout(SOON, news.next()).await.unwrap(), Some(told));
    let more = timeout(Duration::from_millis(200), news.next()).await;
    assert!(more.is_err(), "there is no other: {more:?}");
    drop((news, second));
    let third = again(&supervisor).await;
    let mut news = third.news().await.unwrap();
    let more = timeout(Duration::from_millis(500), news.next()).await;
    assert!(more.is_err(), "it has been passed on: {more:?}");
    assert!(session.query_one("select 1", &[]).await.is_ok(), "no session notices any of it");

    third.stop(Duration::ZERO, None).await.unwrap();
    assert_eq!(timeout(SOON, news.next()).await.unwrap(), None, "and there will be no more");
}

async fn a_task_that_follows_another_one_loses_no_client(scene: &Scene) {
    let first = scene.run("2").await;
    drop(scene.session().await);
    let new_clients = scene.new_clients();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let exit = first.stop(Duration::from_secs(5), None).await.unwrap();
    assert_eq!((exit.code, exit.signal), (0, 0));
    let second = scene.run("3").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let clients = new_clients.stop().await;
    assert!(clients.len() > 15, "only {} clients arrived", clients.len());
    let failed: Vec<_> = clients.iter().filter(|client| client.result.is_err()).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), clients.len(), failed[0]);
    second.stop(Duration::ZERO, None).await.unwrap();
}

async fn a_crash_refuses_nobody(scene: &Scene) {
    let first = scene.run("4").await;
    drop(scene.session().await);
    let new_clients = scene.new_clients();
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.record().relay.signal(Signal::KILL.raw()).unwrap();
    assert_eq!(first.exited().await.signal, 9);
    let crashed = Instant::now();
    // As long as Nomad may take to start it again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = scene.run("5").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let clients = new_clients.stop().await;
    let late = |client: &&lab::NewClient| client.began > crashed;
    let failed: Vec<_> = clients.iter().filter(late).filter(|client| client.result.is_err()).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), clients.len(), failed[0]);
    let refused = |client: &&lab::NewClient| matches!(client.result, Err((Failure::Refused, _)));
    assert_eq!(clients.iter().filter(refused).count(), 0);
    // Those that it had accepted already are lost with it.
    let lost = clients.iter().filter(|client| client.result.is_err()).count();
    assert!(lost < clients.len() / 2, "{lost} of {} failed", clients.len());
    second.stop(Duration::ZERO, None).await.unwrap();
}
