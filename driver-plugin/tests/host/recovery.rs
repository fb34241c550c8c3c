//! Tasks that outlive their plugin, and their recovery by the next one.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;

use nomad_plugin_proto::driver::{
    DestroyTaskRequest, InitRequest, RecoverTaskRequest, TaskConfig, TaskHandle,
};
use rustix::process::Signal;

use crate::handover::{Clients, stop};
use crate::harness::{COOKIE, Job, Plugin, connects, descriptors, lives, program, send, signal, wait};

/// A handle as an agent restores it: the request has no id, and the task no driver config.
fn after_a_restart(handle: &TaskHandle) -> RecoverTaskRequest {
    let config =
        handle.config.clone().map(|config| TaskConfig { msgpack_driver_config: Vec::new(), ..config });
    RecoverTaskRequest { task_id: String::new(), handle: Some(TaskHandle { config, ..handle.clone() }) }
}

#[tokio::test]
async fn pitfall_07_a_task_is_recovered_by_its_handle_alone() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let handle = job.start(&plugin).await.unwrap();
    plugin.kill().await;
    assert!(lives(job.proxy()) && connects(job.address()), "the task continues without a plugin");

    let plugin = Plugin::start(&job.state_dir()).await;
    plugin.driver().recover_task(after_a_restart(&handle)).await.unwrap();
    plugin.driver().recover_task(after_a_restart(&handle)).await.unwrap();
    signal(&plugin, &job, "SIGABRT").await;
    assert_eq!(wait(&plugin, &job.id()).await.result.unwrap().signal, 6);
}

#[tokio::test]
async fn the_exit_of_a_task_that_died_without_a_plugin_is_reported() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let handle = job.start(&plugin).await.unwrap();
    plugin.crash().await;
    send(job.proxy(), Signal::TERM);
    crate::harness::until("the supervisor ends", || !lives(job.supervisor())).await;

    let plugin = Plugin::start(&job.state_dir()).await;
    plugin.driver().recover_task(after_a_restart(&handle)).await.unwrap();
    let result = wait(&plugin, &job.id()).await.result.unwrap();
    assert_eq!((result.exit_code, result.signal), (0, 0));
}

#[tokio::test]
async fn an_agent_can_reattach_to_its_plugin() {
    let mut job = Job::new();
    let mut plugin = Plugin::start(&job.state_dir()).await;
    let handle = job.start(&plugin).await.unwrap();
    plugin.reattach().await;
    plugin.driver().init(InitRequest {}).await.unwrap();
    plugin.driver().recover_task(after_a_restart(&handle)).await.unwrap();
    assert!(connects(job.address()));
}

#[tokio::test]
async fn an_invalid_handle_is_an_error() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let config = Some(job.task().clone());
    let mut errors = Vec::new();
    for driver_state in [&br#"{"version":9}"#[..], b"", b"\x80"] {
        let handle =
            TaskHandle { config: config.clone(), driver_state: driver_state.to_vec(), ..Default::default() };
        let request = RecoverTaskRequest { task_id: String::new(), handle: Some(handle) };
        errors.push(plugin.driver().recover_task(request).await.unwrap_err().message().to_owned());
    }
    assert!(
        errors[0].contains("version 9") && errors[1].contains("driver state of the task is invalid"),
        "{errors:?}"
    );
    let without = plugin.driver().recover_task(RecoverTaskRequest::default()).await.unwrap_err();
    assert!(without.message().contains("handle"), "{without}");
}

/// As after a roll-back: a later version of the driver wrote the handle.
#[tokio::test]
async fn a_task_whose_handle_cannot_be_read_is_found_by_its_id() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let handle = job.start(&plugin).await.unwrap();
    plugin.crash().await;
    let plugin = Plugin::start(&job.state_dir()).await;
    let later = TaskHandle { driver_state: br#"{"version":9}"#.to_vec(), ..handle };
    plugin.driver().recover_task(after_a_restart(&later)).await.unwrap();
    assert!(lives(job.proxy()) && connects(job.address()));
    signal(&plugin, &job, "SIGABRT").await;
    assert_eq!(wait(&plugin, &job.id()).await.result.unwrap().signal, 6);
}

/// As after a loss of the agent's own data: nobody recovers the task, and its address is wanted again.
#[tokio::test]
async fn a_task_that_nomad_has_given_up_gives_way() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let given_up = job.proxy();
    plugin.crash().await;
    let plugin = Plugin::start(&job.state_dir()).await;
    job.task().alloc_id = "66666666-7777-8888-9999-000000000000".into();
    job.next_run();
    let refused = job.start(&plugin).await.unwrap_err();
    assert!(refused.message().contains("accepts clients on"), "{refused}");
    assert!(lives(given_up), "it may be recovered yet");
    // After this time Nomad would have recovered it.
    tokio::time::sleep(std::time::Duration::from_secs(16)).await;
    job.start(&plugin).await.unwrap();
    assert!(!lives(given_up) && lives(job.proxy()) && connects(job.address()));
}

/// The directory that the agent's configuration names is another one by now, and the old one may be gone.
#[tokio::test]
async fn a_task_is_recovered_after_a_change_of_the_state_directory_and_its_sockets_go_on() {
    for removed in [false, true] {
        let mut job = Job::new();
        let plugin = Plugin::start(&job.state_dir()).await;
        let handle = job.start(&plugin).await.unwrap();
        let (first, session) = (job.id(), TcpStream::connect(job.address()).unwrap());
        plugin.crash().await;
        if removed {
            std::fs::remove_dir_all(job.state_dir()).unwrap();
        }
        let plugin = Plugin::start(&job.state_dir().with_file_name("changed")).await;
        plugin.driver().recover_task(after_a_restart(&handle)).await.unwrap();
        assert!(lives(job.proxy()) && is_open(&session), "removed: {removed}");
        let clients = Clients::of(job.address());
        plugin.driver().stop_task(stop(&job)).await.unwrap();
        let destroy = DestroyTaskRequest { task_id: first, force: true };
        plugin.driver().destroy_task(destroy).await.unwrap();
        job.next_run();
        job.start(&plugin).await.unwrap();
        assert_eq!(clients.failures(), [], "removed: {removed}");
    }
}

/// Whether the peer has not closed the connection.
fn is_open(mut session: &TcpStream) -> bool {
    session.set_nonblocking(true).unwrap();
    session.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Nomad repeats the start when the plugin dies before it answers.
#[tokio::test]
async fn pitfall_14_a_start_can_be_repeated_after_the_death_of_the_plugin() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let started = job.start(&plugin).await.unwrap();
    plugin.crash().await;
    let plugin = Plugin::start(&job.state_dir()).await;
    let again = job.start(&plugin).await.unwrap();
    assert_eq!(again.driver_state, started.driver_state, "it is the running task");
    assert!(lives(job.proxy()) && connects(job.address()));
}

#[tokio::test]
async fn pitfall_01_no_process_that_outlives_the_plugin_has_its_pipes() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let own: Vec<_> =
        descriptors(plugin.pid()).into_iter().filter(|(fd, _)| fd == "1" || fd == "2").collect();
    assert_eq!(own.len(), 2);
    for pid in [job.supervisor(), job.proxy()] {
        for (fd, target) in descriptors(pid) {
            assert!(!own.iter().any(|(_, pipe)| *pipe == target), "descriptor {fd} of {pid} is {target:?}");
        }
    }
    // This would not return while another process had a pipe open.
    plugin.crash().await;
    assert!(lives(job.proxy()));
}

/// An agent starts two plugins for validation only, while an older one may still serve.
#[tokio::test]
async fn pitfall_08_a_plugin_that_only_validates_changes_nothing() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let before = listing(&job.state_dir());
    for _ in 0..2 {
        let validating = Plugin::launch(program().env(COOKIE.0, COOKIE.1), &job.state_dir()).await;
        validating.configure(None).await;
        validating.configure(None).await;
        assert!(validating.kill().await.1.success());
    }
    assert_eq!(listing(&job.state_dir()), before);
    assert!(connects(job.address()));
    let unused = job.state_dir().join("unused");
    let validating = Plugin::launch(program().env(COOKIE.0, COOKIE.1), &unused).await;
    validating.configure(None).await;
    assert!(!unused.exists(), "a directory was created");
}

fn listing(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}
