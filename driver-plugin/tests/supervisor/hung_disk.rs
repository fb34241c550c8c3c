//! A disk that hangs: an ext4 file system on a loop device, frozen by `fsfreeze`. Whoever writes to it cannot even be killed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::process_id::ProcessId;
use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{LaunchSpec, SupervisorClient, destroy};
use procfs::process::Process;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::fixture::{Client, Fixture, set, soon, until};

/// The bound of each of these waits, on a machine that has other things to do.
const BOUND: Duration = Duration::from_secs(25);

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}, which makes a disk that hangs: {error}"));
    assert!(
        output.status.success(),
        "a disk that hangs takes root and a loop device; {program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The file system. It works again when this is dropped.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one at `path`.
    fn mount(fixture: &Fixture, name: &str) -> Self {
        let (image, path) = (fixture.path("image"), fixture.path(name));
        fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
        fs::create_dir(&path).unwrap();
        run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        run("mount", &["-o", "loop", image.to_str().unwrap(), path.to_str().unwrap()]);
        Self(path)
    }

    fn hang(&self) {
        run("fsfreeze", &["--freeze", self.0.to_str().unwrap()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It fails unless the disk hangs.
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).output();
        // A process that was just killed may still have something open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

/// A fixture whose supervisors keep their directories on a disk.
fn on_a_disk() -> (Disk, Fixture) {
    let mut fixture = Fixture::new();
    let disk = Disk::mount(&fixture, "disk");
    fixture.launcher.state_dir = disk.0.join("state");
    (disk, fixture)
}

/// A run whose sockets nobody is to wait at.
fn launch(fixture: &Fixture) -> LaunchSpec {
    LaunchSpec { keep_listening: Duration::ZERO, ..fixture.launch("1") }
}

async fn nothing_is_left(supervisor: &SupervisorClient, fixture: &Fixture, began: Instant) {
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert!(!supervisor.record().proxy.alive());
    let refused = loop {
        match Client::connect(fixture.address).await {
            Err(error) => break error,
            Ok(_) => assert!(began.elapsed() < BOUND, "somebody listens"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_stop_and_its_waiters_end_while_the_disk_of_the_state_directory_hangs() {
    let (disk, fixture) = on_a_disk();
    let supervisor = fixture.start(launch(&fixture)).await;
    let waiting = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.exited().await }
    });
    disk.hang();
    let began = Instant::now();
    let exit = soon(supervisor.stop(Duration::from_millis(100), None)).await.unwrap();
    assert_eq!((exit.code, exit.error.as_deref()), (0, None), "the end was orderly");
    assert_eq!(soon(waiting).await.unwrap(), exit);
    nothing_is_left(&supervisor, &fixture, began).await;
    drop(disk);
}

#[tokio::test]
async fn a_destroy_ends_while_the_disk_of_the_state_directory_hangs() {
    let (disk, fixture) = on_a_disk();
    let supervisor = fixture.start(launch(&fixture)).await;
    disk.hang();
    let began = Instant::now();
    soon(destroy(supervisor.record())).await.unwrap();
    nothing_is_left(&supervisor, &fixture, began).await;
    drop(disk);
}

/// Kills the proxy process, and waits until another one answers.
async fn crash(supervisor: &SupervisorClient, fixture: &Fixture) {
    let first = &supervisor.record().proxy;
    first.signal(Signal::KILL).unwrap();
    soon(first.ended()).await;
    let client = fixture.connect().await.unwrap();
    assert_eq!(client.answer().await, Some('E'), "another process answers");
}

/// Whether the disk blocks a thread of a process: it does not even end by SIGKILL.
fn is_blocked(process: &ProcessId) -> bool {
    let threads = Process::new(process.pid.try_into().unwrap()).unwrap().tasks().unwrap();
    threads.flatten().any(|thread| thread.stat().is_ok_and(|stat| stat.state == 'D'))
}

#[tokio::test]
async fn a_supervisor_that_not_even_a_kill_ends_keeps_no_proxy_process_alive() {
    let (disk, fixture) = on_a_disk();
    let task = fixture.start(launch(&fixture)).await;
    let supervisor = &task.record().supervisor;
    let signal = |name: &str| supervisor.signal(Signal::parse(name).unwrap()).unwrap();
    // It is to create its lost directory again, on a disk that hangs by then.
    signal("SIGSTOP");
    fs::remove_dir_all(&task.record().directory).unwrap();
    disk.hang();
    signal("SIGCONT");
    until("the disk blocks it", || is_blocked(supervisor)).await;
    signal("SIGSTOP");
    let destroyed = soon(destroy(task.record())).await;
    assert!(!task.record().proxy.alive(), "{destroyed:?}");
    drop(disk);
}

#[tokio::test]
async fn a_crashed_process_is_started_again_while_the_disk_of_the_state_directory_hangs() {
    let (disk, fixture) = on_a_disk();
    let supervisor = fixture.start(launch(&fixture)).await;
    disk.hang();
    crash(&supervisor, &fixture).await;
    let began = Instant::now();
    soon(supervisor.stop(Duration::from_millis(100), None)).await.unwrap();
    soon(supervisor.exited()).await;
    nothing_is_left(&supervisor, &fixture, began).await;
    drop(disk);
}

#[tokio::test]
async fn a_stop_ends_while_the_disk_of_the_log_hangs_and_nobody_reads_it() {
    let fixture = Fixture::new();
    let disk = Disk::mount(&fixture, "disk");
    let mut spec = launch(&fixture);
    set(&mut spec, "log.filter", "trace");
    spec.stderr = disk.0.join("fifo");
    mknodat(CWD, &spec.stderr, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let unread = rustix::fs::open(&spec.stderr, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    let supervisor = fixture.start(spec).await;
    disk.hang();
    let began = Instant::now();
    soon(supervisor.stop(Duration::from_millis(100), None)).await.unwrap();
    soon(supervisor.exited()).await;
    nothing_is_left(&supervisor, &fixture, began).await;
    drop((unread, disk));
}
