//! A start that is interrupted leaves nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::channel::Channel;
use nomad_driver_pg_leader_proxy::process_id::ProcessId;
use nomad_driver_pg_leader_proxy::roles;
use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::protocol::{Reply, Request};
use nomad_driver_pg_leader_proxy::supervisor::{LaunchSpec, StartError, destroy};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::fixture::{Fixture, SOON, is_gone, set, soon, until};

/// Less than any deadline of a start that nobody waits for.
const AT_ONCE: Duration = Duration::from_secs(6);

/// The processes with this argument on their command line.
fn processes_with(argument: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let numbers = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let given = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    numbers.filter(|pid| String::from_utf8_lossy(&given(pid)).contains(argument)).collect()
}

fn children_of(parents: &[u32]) -> Vec<u32> {
    let children =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let text: Vec<String> = parents.iter().map(children).collect();
    text.iter().flat_map(|text| text.split_whitespace()).map(|pid| pid.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_start_that_is_dropped_at_any_moment_leaves_nothing() {
    let pauses = [0, 1, 5, 10, 20, 40, 80, 160, 320];
    let attempts: tokio::task::JoinSet<()> = pauses.into_iter().map(dropped_after).collect();
    attempts.join_all().await;
}

async fn dropped_after(pause_ms: u64) {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    launch.keep_listening = Duration::ZERO;
    let state_dir = fixture.launcher.state_dir.to_str().unwrap().to_owned();
    let starting = fixture.launcher.start(launch);
    if let Ok(started) = tokio::time::timeout(Duration::from_millis(pause_ms), starting).await {
        // It was finished before.
        soon(destroy(started.unwrap().record())).await.unwrap();
    }
    until("nothing is left", || fixture.left().is_empty() && processes_with(&state_dir).is_empty()).await;
}

#[tokio::test]
async fn a_start_that_waits_for_its_log_is_cancelled_with_the_plugin() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    launch.stderr = fixture.path("fifo");
    mknodat(CWD, &launch.stderr, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let state_dir = fixture.launcher.state_dir.to_str().unwrap().to_owned();
    let starting = fixture.launcher.start(launch);
    assert!(tokio::time::timeout(Duration::from_secs(1), starting).await.is_err(), "nobody reads the log");
    let dropped = Instant::now();
    until("the supervisor has ended", || processes_with(&state_dir).is_empty()).await;
    assert!(dropped.elapsed() < AT_ONCE, "{:?}", dropped.elapsed());
    assert!(fixture.left().is_empty());
}

#[tokio::test]
async fn a_proxy_that_hangs_during_its_start_does_not_outlive_the_plugin() {
    let fixture = Fixture::new();
    let mut launch = hanging(&fixture);
    launch.keep_listening = Duration::ZERO;
    let state_dir = fixture.launcher.state_dir.to_str().unwrap().to_owned();
    let starting = fixture.launcher.start(launch);
    assert!(tokio::time::timeout(Duration::from_secs(2), starting).await.is_err(), "it cannot become ready");
    let dropped = Instant::now();
    let proxies = children_of(&processes_with(&state_dir));
    until("both have ended", || {
        processes_with(&state_dir).is_empty() && proxies.iter().all(|pid| ProcessId::of(*pid).is_err())
    })
    .await;
    assert!(dropped.elapsed() < AT_ONCE, "{:?}", dropped.elapsed());
    assert_eq!(proxies.len(), 1, "there was one proxy");
    assert!(fixture.left().is_empty());
}

#[tokio::test]
async fn a_proxy_that_dies_during_its_start_is_reported_with_its_exit() {
    let fixture = Fixture::new();
    let launch = hanging(&fixture);
    let state_dir = fixture.launcher.state_dir.to_str().unwrap().to_owned();
    let killing = tokio::spawn(async move {
        until("there is a proxy", || !children_of(&processes_with(&state_dir)).is_empty()).await;
        for proxy in children_of(&processes_with(&state_dir)) {
            ProcessId::of(proxy).unwrap().signal(Signal::KILL).unwrap();
        }
    });
    let error = soon(fixture.try_start(launch)).await.err().unwrap();
    let text = "the proxy exited before it was ready: signal: 9 (SIGKILL)";
    assert_eq!(error, StartError::Transient(text.to_owned()));
    killing.await.unwrap();
}

/// A start whose proxy waits for ever: for somebody who writes the file of its configuration.
fn hanging(fixture: &Fixture) -> LaunchSpec {
    let fifo = fixture.path("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    // The proxy is another user.
    fs::set_permissions(fifo.parent().unwrap(), fs::Permissions::from_mode(0o711)).unwrap();
    let mut launch = fixture.launch("1");
    set(&mut launch, "probe.sslmode", "verify-ca");
    set(&mut launch, "probe.ca_file", fifo.to_str().unwrap());
    launch
}

/// A supervisor that was not told yet what to start.
async fn bare_supervisor(fixture: &Fixture) -> (Child, PathBuf) {
    let directory = fixture.launcher.state_dir.join("bare.0");
    fs::create_dir_all(&directory).unwrap();
    let child = Command::new(&fixture.launcher.executable)
        .arg(roles::SUPERVISOR)
        .arg(&directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it listens", || directory.join("control.sock").exists()).await;
    (child, directory)
}

async fn connect(directory: &Path) -> Channel {
    Channel::new(UnixStream::connect(directory.join("control.sock")).await.unwrap())
}

#[tokio::test]
async fn a_task_that_the_plugin_does_not_confirm_is_ended() {
    let fixture = Fixture::new();
    let (mut child, directory) = bare_supervisor(&fixture).await;
    let mut channel = connect(&directory).await;
    let mut launch = fixture.launch("1");
    launch.keep_listening = Duration::ZERO;
    channel.send(&Request::Start(Box::new(launch))).await.unwrap();
    let Reply::Started(record) = channel.expect(SOON).await.unwrap() else { panic!("it starts") };
    assert!(record.proxy.alive());
    drop(channel);
    until("the proxy has ended", || !record.proxy.alive()).await;
    until("the supervisor has ended", || child.try_wait().unwrap().is_some()).await;
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_supervisor_survives_silent_and_invalid_clients() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let directory = &supervisor.record().directory;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(connect(directory).await);
    }
    for nonsense in ["nonsense\n".to_owned(), "\"Ack\"\n".to_owned(), "x".repeat(2 << 20)] {
        let mut stream = UnixStream::connect(directory.join("control.sock")).await.unwrap();
        // The supervisor closes the connection before it has read everything.
        let _ = stream.write_all(nonsense.as_bytes()).await;
    }
    let mut second = connect(directory).await;
    second.send(&Request::Start(Box::new(fixture.launch("2")))).await.unwrap();
    let reply = second.expect::<Reply>(SOON).await.unwrap();
    assert!(matches!(reply, Reply::StartFailed(_)), "it has a task already: {reply:?}");
    assert_eq!(soon(supervisor.launch_spec()).await.unwrap(), fixture.launch("1"));
    assert!(supervisor.record().proxy.alive());
    drop(silent);
}

#[tokio::test]
async fn a_supervisor_without_a_request_ends() {
    let fixture = Fixture::new();
    let (mut child, directory) = bare_supervisor(&fixture).await;
    let identity = ProcessId::of(child.id()).unwrap();
    until("it has ended", || child.try_wait().unwrap().is_some()).await;
    assert!(is_gone(&identity) && !directory.exists());
}
