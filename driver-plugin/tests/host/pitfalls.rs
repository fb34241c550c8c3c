//! Pitfalls of the protocol that belong to no other file.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use nomad_plugin_proto::driver::{
    CreateNetworkRequest, DestroyNetworkRequest, DestroyTaskRequest, ExecTaskRequest, InspectTaskRequest,
    RecoverTaskRequest, ShutdownRequest, SignalTaskRequest, StartTaskRequest, StopTaskRequest,
    TaskStatsRequest, WaitTaskRequest,
};
use tonic::{Code, Status};

use crate::harness::{
    COOKIE, Job, Plugin, connects, descriptors, is_empty, lives, program, soon, status_field, until, wait,
};

/// Nomad reads these parts without checking that they exist.
#[tokio::test]
async fn pitfall_06_every_part_that_nomad_reads_exists() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let mut driver = plugin.driver();
    let task_id = job.id();
    let start = StartTaskRequest { task: Some(job.task().clone()) };
    let handle = driver.start_task(start).await.unwrap().into_inner().handle.unwrap();
    job.own(handle.clone());
    assert!(handle.version >= 1 && handle.config.is_some() && !handle.driver_state.is_empty());
    let command = vec!["true".to_owned()];
    let exec = ExecTaskRequest { task_id: task_id.clone(), command, timeout: None };
    assert!(driver.exec_task(exec).await.unwrap().into_inner().result.is_some());
    let stats = TaskStatsRequest { task_id: task_id.clone(), collection_interval: None };
    let sample = driver.task_stats(stats).await.unwrap().into_inner().message().await.unwrap().unwrap();
    let sample = sample.stats.unwrap();
    assert!(sample.timestamp.is_some() && sample.agg_resource_usage.is_some());
    let inspect = InspectTaskRequest { task_id: task_id.clone() };
    let task = driver.inspect_task(inspect).await.unwrap().into_inner().task.unwrap();
    assert!(task.started_at.is_some() && task.result.is_some());
    assert_eq!(task.completed_at.unwrap().seconds, -62_135_596_800, "Go's zero time");
    driver.stop_task(StopTaskRequest { task_id: task_id.clone(), ..Default::default() }).await.unwrap();
    assert!(driver.wait_task(WaitTaskRequest { task_id }).await.unwrap().into_inner().result.is_some());
}

/// Nomad would repeat a failed stop for almost six minutes.
#[tokio::test]
async fn pitfall_09_stopping_and_destroying_an_unknown_task_succeeds() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let task_id = "unknown/task/00000000".to_owned();
    let stop = StopTaskRequest { task_id: task_id.clone(), ..Default::default() };
    plugin.driver().stop_task(stop).await.unwrap();
    plugin.driver().destroy_task(DestroyTaskRequest { task_id, force: true }).await.unwrap();
}

/// Nomad takes these two codes for the death of the plugin.
#[tokio::test]
async fn pitfall_10_no_error_looks_like_the_death_of_the_plugin() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let mut driver = plugin.driver();
    let task_id = || "unknown/task/00000000".to_owned();
    let unknown = [
        driver.wait_task(WaitTaskRequest { task_id: task_id() }).await.unwrap_err(),
        driver.inspect_task(InspectTaskRequest { task_id: task_id() }).await.unwrap_err(),
        driver
            .task_stats(TaskStatsRequest { task_id: task_id(), collection_interval: None })
            .await
            .unwrap_err(),
        driver
            .signal_task(SignalTaskRequest { task_id: task_id(), signal: "SIGHUP".into() })
            .await
            .unwrap_err(),
        driver.exec_task(ExecTaskRequest { task_id: task_id(), ..Default::default() }).await.unwrap_err(),
    ];
    for error in &unknown {
        assert_eq!((error.code(), error.message()), (Code::NotFound, "task not found for given id"));
    }
    let others: [Status; 3] = [
        driver.start_task(StartTaskRequest::default()).await.unwrap_err(),
        driver.recover_task(RecoverTaskRequest::default()).await.unwrap_err(),
        driver.exec_task_streaming(tokio_stream::empty()).await.unwrap_err(),
    ];
    for error in others {
        assert!(!matches!(error.code(), Code::Unavailable | Code::Cancelled), "{error}");
    }
    let networks = [
        driver.create_network(CreateNetworkRequest::default()).await.map(drop).unwrap_err(),
        driver.destroy_network(DestroyNetworkRequest::default()).await.map(drop).unwrap_err(),
    ];
    assert!(networks.iter().all(|error| error.code() == Code::Unimplemented));
    driver.shutdown(ShutdownRequest {}).await.unwrap();
}

/// Nomad's log collection: FIFOs whose reader may open them later.
#[tokio::test]
async fn pitfall_13_both_fifos_are_opened_once_they_have_readers_and_by_the_proxy_only() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let fifos = ["out.fifo", "err.fifo"].map(|name| job.alloc_dir().join(name));
    for fifo in &fifos {
        mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    }
    job.task().stdout_path = fifos[0].display().to_string();
    job.task().stderr_path = fifos[1].display().to_string();
    let read: Arc<Mutex<Vec<String>>> = Arc::default();
    let read_now = Arc::new(Barrier::new(3));
    let readers = fifos.clone().map(|fifo| {
        let (read, read_now) = (Arc::clone(&read), Arc::clone(&read_now));
        thread::spawn(move || {
            read_now.wait();
            let mut text = String::new();
            File::open(fifo).unwrap().read_to_string(&mut text).unwrap();
            read.lock().unwrap().push(text);
        })
    });
    let other = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut driver = plugin.driver();
        let asked = driver.capabilities(nomad_plugin_proto::driver::CapabilitiesRequest {});
        soon(asked).await.expect("a start that waits blocks no other rpc");
        read_now.wait();
    };
    let (started, ()) = tokio::join!(job.start(&plugin), other);
    started.unwrap();
    let kept = descriptors(plugin.pid()).into_iter().find(|(_, target)| fifos.contains(target));
    assert_eq!(kept, None, "the plugin has it open: its reader would never see the end");
    let stop = StopTaskRequest { task_id: job.id(), ..Default::default() };
    plugin.driver().stop_task(stop).await.unwrap();
    until("both readers see the end", || readers.iter().all(thread::JoinHandle::is_finished)).await;
    assert!(read.lock().unwrap().iter().any(|text| text.contains("INFO")), "{:?}", read.lock().unwrap());
}

#[tokio::test]
async fn pitfall_13_the_user_of_the_task_owns_its_fifos() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    for name in ["out.fifo", "err.fifo"] {
        mkfifo(&job.alloc_dir().join(name), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    }
    let path = |job: &Job, name: &str| job.alloc_dir().join(name).display().to_string();
    job.task().stdout_path = path(&job, "out.fifo");
    job.task().stderr_path = path(&job, "err.fifo");
    job.task().user = "nobody".into();
    let _readers = ["out.fifo", "err.fifo"].map(|name| non_blocking(&job.alloc_dir().join(name)));
    job.let_everybody_in();
    job.start(&plugin).await.unwrap();
    let owner = job.alloc_dir().join("out.fifo").metadata().unwrap().uid();
    assert_eq!(owner, nobody.uid.as_raw());
    let uids = status_field(job.proxy(), "Uid");
    assert!(uids.split_whitespace().all(|uid| uid == nobody.uid.as_raw().to_string()), "{uids}");
}

fn non_blocking(fifo: &Path) -> File {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
    OpenOptions::new().read(true).custom_flags(flags).open(fifo).unwrap()
}

/// tonic drops the handler when the client goes.
#[tokio::test]
async fn pitfall_14_a_start_whose_client_is_gone_leaves_no_task() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    // It has no reader yet, so the start waits for one.
    let fifo = job.alloc_dir().join("out.fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    job.task().stdout_path = fifo.display().to_string();
    let given_up = tokio::time::timeout(Duration::from_millis(300), job.start(&plugin)).await;
    assert!(given_up.is_err(), "it waits");
    // Meanwhile the plugin notices.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _reader = non_blocking(&fifo);
    until("nothing is left of it", || is_empty(&job.state_dir()) && !connects(job.address())).await;
    job.start(&plugin).await.unwrap();
    assert!(connects(job.address()));
}

#[tokio::test]
async fn pitfall_14_a_stop_whose_client_is_gone_is_completed() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    // A session, so that the drain takes time.
    let sockets = || {
        descriptors(job.proxy())
            .iter()
            .filter(|(_, to)| to.display().to_string().starts_with("socket:"))
            .count()
    };
    let before = sockets();
    let _session = std::net::TcpStream::connect(job.address()).unwrap();
    until("the client is accepted", || sockets() > before).await;
    let timeout = Some(prost_types::Duration::try_from(Duration::from_secs(1)).unwrap());
    let stop = StopTaskRequest { task_id: job.id(), timeout, signal: String::new() };
    let mut driver = plugin.driver();
    let given_up = tokio::time::timeout(Duration::from_millis(200), driver.stop_task(stop)).await;
    assert!(given_up.is_err(), "it drains");
    assert_eq!(wait(&plugin, &job.id()).await.result.unwrap().exit_code, 0);
}

/// An agent under systemd is protected from the OOM killer, has secrets in its environment, and shares a process
/// group with its plugins.
#[tokio::test]
async fn pitfall_15_a_task_inherits_nothing_from_the_agent() {
    let mut job = Job::new();
    let mut command = program();
    command.env(COOKIE.0, COOKIE.1).env("VAULT_TOKEN", "s.agent");
    let plugin = Plugin::launch(&mut command, &job.state_dir()).await;
    plugin.configure(None).await;
    std::fs::write(format!("/proc/{}/oom_score_adj", plugin.pid()), "500").unwrap();
    job.task().env.insert("LD_PRELOAD".into(), "/no/such.so".into());
    job.start(&plugin).await.unwrap();
    let proxy = job.proxy();
    let proc = |name: &str| std::fs::read_to_string(format!("/proc/{proxy}/{name}")).unwrap();
    assert_eq!(proc("oom_score_adj").trim(), "0");
    let environment = proc("environ");
    let mut names: Vec<&str> = environment
        .split('\0')
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    assert!(names.is_empty(), "others could read {names:?}");
    let supervisor = std::fs::read_to_string(format!("/proc/{}/environ", job.supervisor())).unwrap();
    assert!(!supervisor.contains("VAULT_TOKEN"), "{supervisor}");
    assert_eq!(status_field(proxy, "SigBlk"), "0000000000000000");
    assert!(std::fs::read_link(format!("/proc/{proxy}/cwd")).unwrap().ends_with("alloc/proxy"));
    // getsid(2) returns 0 for a session whose leader is outside of the container.
    let session = |pid: u32| status_field(pid, "NSsid");
    assert_ne!(session(proxy), session(plugin.pid()));
    assert!(lives(proxy));
}
