//! What a plugin leaves behind that dies, or gives up, in the middle of a start: nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::identity::Identity;
use nomad_driver_pg_leader_proxy::supervisor::channel::Channel;
use nomad_driver_pg_leader_proxy::supervisor::protocol::{Reply, Request};
use nomad_driver_pg_leader_proxy::supervisor::{StartError, Supervisor};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::scene::{SOON, Scene, is_gone, soon, until};

/// Less than any of the times after which a start is given up that goes on with nobody waiting for it.
const AT_ONCE: Duration = Duration::from_secs(6);

/// The processes that were started with this argument, whether they are still reaped or not.
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
    let scene = Scene::new();
    let mut launch = scene.launch("1");
    launch.keep_listening = Duration::ZERO;
    let state_dir = scene.base.state_dir.to_str().unwrap().to_owned();
    let starting = Supervisor::start(&scene.base, launch);
    if let Ok(started) = tokio::time::timeout(Duration::from_millis(pause_ms), starting).await {
        // It was quicker than that: this one is wanted.
        soon(started.unwrap().destroy()).await.unwrap();
    }
    until("nothing is left", || scene.left().is_empty() && processes_with(&state_dir).is_empty()).await;
}

#[tokio::test]
async fn a_start_that_waits_for_its_log_ends_with_the_plugin() {
    let scene = Scene::new();
    let mut launch = scene.launch("1");
    launch.stderr = scene.path("fifo");
    mknodat(CWD, &launch.stderr, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let state_dir = scene.base.state_dir.to_str().unwrap().to_owned();
    let starting = Supervisor::start(&scene.base, launch);
    assert!(tokio::time::timeout(Duration::from_secs(1), starting).await.is_err(), "nobody reads the log");
    let dropped = Instant::now();
    until("the supervisor has ended", || processes_with(&state_dir).is_empty()).await;
    assert!(dropped.elapsed() < AT_ONCE, "{:?}", dropped.elapsed());
    assert!(scene.left().is_empty());
}

#[tokio::test]
async fn a_relay_that_hangs_in_its_start_does_not_outlive_the_plugin() {
    let scene = Scene::new();
    let mut launch = scene.launch("1");
    // The first line of the log blocks: the pipe is full.
    launch.stderr = scene.path("fifo");
    mknodat(CWD, &launch.stderr, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let full = full_pipe(&launch.stderr);
    launch.keep_listening = Duration::ZERO;
    let state_dir = scene.base.state_dir.to_str().unwrap().to_owned();
    let starting = Supervisor::start(&scene.base, launch);
    assert!(tokio::time::timeout(Duration::from_secs(2), starting).await.is_err(), "it cannot come up");
    let dropped = Instant::now();
    let relays = children_of(&processes_with(&state_dir));
    until("both have ended", || {
        processes_with(&state_dir).is_empty() && relays.iter().all(|pid| Identity::of(*pid).is_err())
    })
    .await;
    assert!(dropped.elapsed() < AT_ONCE, "{:?}", dropped.elapsed());
    assert_eq!(relays.len(), 1, "there was one relay");
    assert!(scene.left().is_empty());
    drop(full);
}

#[tokio::test]
async fn a_relay_that_dies_in_its_start_is_told_from_one_that_is_refused() {
    let scene = Scene::new();
    let mut launch = scene.launch("1");
    launch.stderr = scene.path("fifo");
    mknodat(CWD, &launch.stderr, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let full = full_pipe(&launch.stderr);
    let state_dir = scene.base.state_dir.to_str().unwrap().to_owned();
    let killing = tokio::spawn(async move {
        until("there is a relay", || !children_of(&processes_with(&state_dir)).is_empty()).await;
        for relay in children_of(&processes_with(&state_dir)) {
            Identity::of(relay).unwrap().signal(rustix::process::Signal::KILL).unwrap();
        }
    });
    let error = soon(scene.try_start(launch)).await.err().unwrap();
    let text = "the relay ended before it was up: signal: 9 (SIGKILL)";
    assert_eq!(error, StartError::Transient(text.to_owned()));
    killing.await.unwrap();
    drop(full);
}

/// A FIFO that takes no more.
fn full_pipe(path: &Path) -> fs::File {
    use rustix::fs::OFlags;
    let both = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pipe = rustix::fs::open(path, both, Mode::empty()).unwrap();
    while rustix::io::write(&pipe, &[b'\n'; 4096]).is_ok() {}
    while rustix::io::write(&pipe, b"\n").is_ok() {}
    pipe.into()
}

/// A supervisor that was started, and told nothing yet.
async fn bare_supervisor(scene: &Scene) -> (Child, PathBuf) {
    let directory = scene.base.state_dir.join("bare.0");
    fs::create_dir_all(&directory).unwrap();
    let child = Command::new(&scene.base.executable)
        .arg("supervise")
        .arg(&directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it listens", || directory.join("control.sock").exists()).await;
    (child, directory)
}

async fn conversation(directory: &Path) -> Channel {
    Channel::new(UnixStream::connect(directory.join("control.sock")).await.unwrap())
}

#[tokio::test]
async fn a_relay_of_which_the_plugin_does_not_know_is_ended() {
    let scene = Scene::new();
    let (mut child, directory) = bare_supervisor(&scene).await;
    let mut channel = conversation(&directory).await;
    let mut launch = scene.launch("1");
    launch.keep_listening = Duration::ZERO;
    channel.send(&Request::Launch(Box::new(launch))).await.unwrap();
    let Reply::Up(record) = channel.expect(SOON).await.unwrap() else { panic!("it comes up") };
    assert!(record.relay.alive());
    drop(channel);
    until("the relay has ended", || !record.relay.alive()).await;
    until("the supervisor has ended", || child.try_wait().unwrap().is_some()).await;
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_supervisor_bears_with_whoever_talks_to_it() {
    let scene = Scene::new();
    let supervisor = scene.start(scene.launch("1")).await;
    let directory = &supervisor.record().directory;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(conversation(directory).await);
    }
    for nonsense in ["nonsense\n".to_owned(), "\"Taken\"\n".to_owned(), "x".repeat(2 << 20)] {
        let mut stream = UnixStream::connect(directory.join("control.sock")).await.unwrap();
        // Whoever says too much is not heard to the end.
        let _ = stream.write_all(nonsense.as_bytes()).await;
    }
    let mut second = conversation(directory).await;
    second.send(&Request::Launch(Box::new(scene.launch("2")))).await.unwrap();
    let reply = second.expect::<Reply>(SOON).await.unwrap();
    assert!(matches!(reply, Reply::NotStarted(_)), "one task is enough: {reply:?}");
    assert_eq!(soon(supervisor.launch()).await.unwrap(), scene.launch("1"));
    assert!(supervisor.record().relay.alive());
    drop(silent);
}

#[tokio::test]
async fn a_supervisor_that_nobody_tells_anything_ends_itself() {
    let scene = Scene::new();
    let (mut child, directory) = bare_supervisor(&scene).await;
    let identity = Identity::of(child.id()).unwrap();
    until("it has ended", || child.try_wait().unwrap().is_some()).await;
    assert!(is_gone(&identity) && !directory.exists());
}
