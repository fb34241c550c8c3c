//! Supervised proxies in front of a real cluster: events that wait for a plugin, and tasks that replace each other.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lab::{Cluster, ClusterOptions, Failure, MONITOR, NewClients, Session};
use nomad_driver_pg_leader_proxy::resources::Cgroups;
use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{
    JobName, LaunchSpec, Launcher, Recovered, SupervisorClient, TaskName, TaskRecord,
};
use nomad_driver_pg_leader_proxy::user::Account;
use tempfile::TempDir;
use tokio::time::timeout;

/// Beyond anything that a healthy step takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The interval of new clients. Each logs in and writes.
const EVERY: Duration = Duration::from_millis(100);

/// A cluster of one member, and a state directory for supervisors.
struct Fixture {
    cluster: Cluster,
    directory: TempDir,
    launcher: Launcher,
    started: Mutex<Vec<TaskRecord>>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for record in self.started.lock().unwrap().iter() {
            let _ = record.supervisor.signal(Signal::KILL);
            let _ = record.proxy.signal(Signal::KILL);
        }
    }
}

impl Fixture {
    async fn start() -> Self {
        let options = ClusterOptions { members: 1, max_connections: 500, ..ClusterOptions::default() };
        let cluster = Cluster::start(options).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let launcher = Launcher {
            executable: PathBuf::from(env!("CARGO_BIN_EXE_nomad-driver-pg-leader-proxy")),
            state_dir: directory.path().join("state"),
        };
        Self { cluster, directory, launcher, started: Mutex::default() }
    }

    async fn run(&self, run: &str) -> SupervisorClient {
        let file = self.directory.path().join("proxy.toml");
        fs::write(&file, self.cluster.proxy_config("proxy").unwrap()).unwrap();
        let log = self.directory.path().join("log");
        fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
        let launch = LaunchSpec {
            task: TaskName {
                id: format!("0a1b/proxy/{run}"),
                alloc_id: "0a1b".to_owned(),
                name: "proxy".to_owned(),
            },
            job: JobName { namespace: "default".to_owned(), id: "proxy".to_owned() },
            settings: Vec::new(),
            environment: BTreeMap::from([
                ("PGLP_CONFIG".to_owned(), file.to_str().unwrap().to_owned()),
                ("PGLP_PROBE_PASSWORD".to_owned(), MONITOR.password.to_owned()),
            ]),
            alloc_dir: self.directory.path().to_owned(),
            directory: self.directory.path().to_owned(),
            stdout: PathBuf::from("/dev/null"),
            stderr: log.clone(),
            account: Some(Account::find("nobody").unwrap()),
            user: None,
            cgroups: Cgroups::default(),
            oom_score_adj: 0,
            keep_listening: Duration::from_secs(20),
            earlier_state_dirs: Vec::new(),
        };
        let started = self.launcher.start(launch).await;
        let started =
            started.unwrap_or_else(|error| panic!("{error}; the log: {}", fs::read_to_string(log).unwrap()));
        self.started.lock().unwrap().push(started.record().clone());
        started
    }

    async fn session(&self) -> Session {
        let write = self.cluster.proxy_addresses("proxy").unwrap().write;
        Session::open_within(&self.cluster.app_config(write), SOON).await.unwrap()
    }

    fn new_clients(&self) -> NewClients {
        let load = self.cluster.load(self.cluster.proxy_addresses("proxy").unwrap().write);
        NewClients::start(load, EVERY).unwrap()
    }
}

/// The task as another plugin recovers it.
async fn again(supervisor: &SupervisorClient) -> SupervisorClient {
    match SupervisorClient::recover(supervisor.record()).await.unwrap() {
        Recovered::Running(supervisor) => supervisor,
        Recovered::Exited(exit) => panic!("it exited: {exit:?}"),
    }
}

#[tokio::test]
async fn a_supervised_proxy_in_front_of_a_cluster() {
    let fixture = Fixture::start().await;
    events_wait_for_the_plugin_that_delivers_them(&fixture).await;
    replacing_a_task_loses_no_client(&fixture).await;
    after_a_crash_the_supervisor_starts_the_proxy_again(&fixture).await;
}

async fn events_wait_for_the_plugin_that_delivers_them(fixture: &Fixture) {
    let supervisor = fixture.run("1").await;
    let session = fixture.session().await;
    let mut events = supervisor.events().await.unwrap();
    let first = timeout(SOON, events.next()).await.unwrap().unwrap();
    assert_eq!((first.number, first.event.kind.as_str()), (1, "leader"), "{first:?}");
    assert!(first.event.message.contains("leader is a"), "{first:?}");
    assert_eq!(first.event.annotations["member"], "a");

    // The plugin dies before it has delivered the event; the next one delivers it, and dies as well.
    drop((events, supervisor.clone()));
    let second = again(&supervisor).await;
    let mut events = second.events().await.unwrap();
    assert_eq!(timeout(SOON, events.next()).await.unwrap(), Some(first));
    let more = timeout(Duration::from_millis(200), events.next()).await;
    assert!(more.is_err(), "there is no other: {more:?}");
    drop((events, second));
    let third = again(&supervisor).await;
    let mut events = third.events().await.unwrap();
    let more = timeout(Duration::from_millis(500), events.next()).await;
    assert!(more.is_err(), "it was delivered: {more:?}");
    assert!(session.query_one("select 1", &[]).await.is_ok(), "the session is not affected");

    third.stop(Duration::ZERO, None).await.unwrap();
    assert_eq!(timeout(SOON, events.next()).await.unwrap(), None, "there are no more events");
}

async fn replacing_a_task_loses_no_client(fixture: &Fixture) {
    let first = fixture.run("2").await;
    drop(fixture.session().await);
    let new_clients = fixture.new_clients();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let exit = first.stop(Duration::from_secs(5), None).await.unwrap();
    assert_eq!((exit.code, exit.signal), (0, 0));
    let second = fixture.run("3").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let clients = new_clients.stop().await;
    assert!(clients.len() > 15, "only {} clients arrived", clients.len());
    let failed: Vec<_> = clients.iter().filter(|client| client.result.is_err()).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), clients.len(), failed[0]);
    second.stop(Duration::ZERO, None).await.unwrap();
}

async fn after_a_crash_the_supervisor_starts_the_proxy_again(fixture: &Fixture) {
    let supervisor = fixture.run("4").await;
    drop(fixture.session().await);
    let new_clients = fixture.new_clients();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = supervisor.record().proxy.clone();
    first.signal(Signal::KILL).unwrap();
    let crashed = Instant::now();
    drop(fixture.session().await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let clients = new_clients.stop().await;
    let late = |client: &&lab::NewClient| client.began > crashed;
    let failed: Vec<_> = clients.iter().filter(late).filter(|client| client.result.is_err()).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), clients.len(), failed[0]);
    let refused = |client: &&lab::NewClient| matches!(client.result, Err((Failure::Refused, _)));
    assert_eq!(clients.iter().filter(refused).count(), 0);
    // Connections that it had accepted are lost.
    let lost = clients.iter().filter(|client| client.result.is_err()).count();
    assert!(lost < clients.len() / 2, "{lost} of {} failed", clients.len());
    let recovered = again(&supervisor).await;
    assert_ne!(recovered.proxy(), first, "the same task has another process");
    recovered.stop(Duration::ZERO, None).await.unwrap();
}
