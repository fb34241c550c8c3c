//! State directories that are lost, changed or full while a task runs.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{Recovered, StartError, SupervisorClient};

use crate::fixture::{Fixture, exit_found, is_gone, listening, set, soon, until};

/// A file system in memory. Dropping it unmounts it.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one with so many KiB.
    fn mount(path: &Path, size_kib: u32) -> Self {
        fs::create_dir_all(path).unwrap();
        let options = format!("size={size_kib}k,mode=700");
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path));
        assert!(mounted, "no tmpfs at {}", path.display());
        Self(path.to_owned())
    }

    /// Leaves no space.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 64]).is_ok() {}
        let error = fs::write(self.0.join("another"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

fn run(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).status().unwrap().success()
}

async fn recovered(supervisor: &SupervisorClient) -> SupervisorClient {
    match soon(SupervisorClient::recover(supervisor.record())).await.unwrap() {
        Recovered::Running(recovered) => recovered,
        Recovered::Exited(exit) => panic!("{exit:?}"),
    }
}

/// Starts a task with a client, loses its state directory in one of three ways, and recovers the task.
async fn after_the_loss(way: &str) {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    set(&mut launch, "write.hold_timeout", "10m");
    let first = fixture.start(launch).await;
    let sockets = listening(&first.record().proxy, fixture.address);
    let held = fixture.connect().await.unwrap();
    until("it is accepted", || fixture.sessions() == 1).await;
    let state_dir = &fixture.launcher.state_dir;
    let mut mounted = None;
    match way {
        "removed" => fs::remove_dir_all(state_dir).unwrap(),
        "renamed" => fs::rename(state_dir, fixture.path("renamed")).unwrap(),
        _ => mounted = Some(Tmpfs::mount(state_dir, 1024)),
    }
    let again = recovered(&first).await;
    assert!(first.record().proxy.alive() && fixture.sessions() == 1, "{way}: the session goes on");
    assert_eq!(soon(again.launch_spec()).await.unwrap().task, fixture.launch("1").task);

    // The next task finds its neighbour there.
    let refused = fixture.try_start(fixture.launch("2")).await.unwrap_err();
    assert!(matches!(refused, StartError::Occupied(_)), "{way}: {refused:?}");
    drop(held);
    let exit = soon(again.stop(Duration::from_secs(5), None)).await.unwrap();
    assert_eq!((exit.code, exit.error), (0, None), "{way}");
    let waiting = fixture.connect().await.unwrap();
    let second = fixture.start(fixture.launch("2")).await;
    assert_eq!(listening(&second.record().proxy, fixture.address), sockets, "{way}");
    assert_eq!(waiting.answer().await, Some('E'), "{way}: the next task serves it");
    until("the first supervisor ends", || is_gone(&first.record().supervisor)).await;
    assert_eq!(exit_found(first.record()).await.code, 0, "{way}: its exit was recorded");
    second.record().supervisor.signal(Signal::KILL).unwrap();
    until("nothing runs", || is_gone(&second.record().proxy)).await;
    drop(mounted);
}

#[tokio::test]
async fn a_task_is_recovered_after_its_state_directory_was_removed() {
    after_the_loss("removed").await;
}

#[tokio::test]
async fn a_task_is_recovered_after_its_state_directory_was_renamed() {
    after_the_loss("renamed").await;
}

#[tokio::test]
async fn a_task_is_recovered_after_something_was_mounted_over_its_state_directory() {
    after_the_loss("mounted over").await;
}

#[tokio::test]
async fn a_stop_right_after_the_loss_is_orderly_and_its_exit_is_recorded() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    launch.keep_listening = Duration::ZERO;
    let supervisor = fixture.start(launch).await;
    fs::remove_dir_all(&fixture.launcher.state_dir).unwrap();
    let exit = soon(supervisor.stop(Duration::from_secs(5), None)).await.unwrap();
    assert_eq!((exit.code, exit.signal, exit.error), (0, 0, None));
    until("the supervisor ends", || is_gone(&supervisor.record().supervisor)).await;
    assert_eq!(exit_found(supervisor.record()).await.code, 0);
}

#[tokio::test]
async fn an_orderly_end_is_recorded_although_the_state_directory_is_full() {
    let fixture = Fixture::new();
    let tmpfs = Tmpfs::mount(&fixture.launcher.state_dir, 64);
    let mut launch = fixture.launch("1");
    launch.keep_listening = Duration::ZERO;
    let supervisor = fixture.start(launch).await;
    tmpfs.fill();
    let exit = soon(supervisor.stop(Duration::from_secs(5), None)).await.unwrap();
    assert_eq!((exit.code, exit.error), (0, None));
    until("the supervisor ends", || is_gone(&supervisor.record().supervisor)).await;
    let exit = exit_found(supervisor.record()).await;
    assert_eq!((exit.code, exit.error), (0, None), "a plugin that comes later finds it");
}

#[tokio::test]
async fn a_crashed_proxy_is_started_again_although_the_state_directory_is_full() {
    let fixture = Fixture::new();
    let tmpfs = Tmpfs::mount(&fixture.launcher.state_dir, 64);
    let supervisor = fixture.start(fixture.launch("1")).await;
    tmpfs.fill();
    supervisor.record().proxy.signal(Signal::KILL).unwrap();
    until("another process accepts", || {
        let found = listening(&supervisor.record().supervisor, fixture.address);
        !found.is_empty() && is_gone(&supervisor.record().proxy)
    })
    .await;
    assert_eq!(soon(fixture.connect().await.unwrap().answer()).await, Some('E'), "it serves clients");
    let exit = soon(supervisor.stop(Duration::from_secs(5), None)).await.unwrap();
    assert_eq!((exit.code, exit.error), (0, None));
    soon(nomad_driver_pg_leader_proxy::supervisor::destroy(supervisor.record())).await.unwrap();
}

#[tokio::test]
async fn a_start_in_a_full_state_directory_is_refused_with_its_name() {
    let fixture = Fixture::new();
    let tmpfs = Tmpfs::mount(&fixture.launcher.state_dir, 64);
    tmpfs.fill();
    let error = soon(fixture.try_start(fixture.launch("1"))).await.unwrap_err();
    let StartError::Transient(text) = error else { panic!("{error:?}") };
    let state_dir = fixture.launcher.state_dir.display().to_string();
    assert!(text.contains("cannot write to the state directory") && text.contains(&state_dir), "{text}");
    assert!(text.contains("No space left"), "{text}");
    until("nothing is left", || fixture.left().iter().all(|path| path.is_file())).await;
}
