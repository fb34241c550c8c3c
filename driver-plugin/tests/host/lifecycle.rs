//! The lifecycle of a task: start, stop, exit, destruction.

use std::time::Duration;

use nomad_plugin_proto::driver::{
    DestroyTaskRequest, InspectTaskRequest, SignalTaskRequest, StopTaskRequest, TaskState, WaitTaskRequest,
};
use tonic::Code;

use crate::harness::{Job, Plugin, connects, is_empty, lives, signal, soon, until, wait};

fn stop(task_id: &str, timeout: Duration, signal: &str) -> StopTaskRequest {
    let timeout = prost_types::Duration::try_from(timeout).unwrap();
    StopTaskRequest { task_id: task_id.to_owned(), timeout: Some(timeout), signal: signal.to_owned() }
}

fn destroy(task_id: &str) -> DestroyTaskRequest {
    DestroyTaskRequest { task_id: task_id.to_owned(), force: true }
}

#[tokio::test]
async fn a_task_starts_stops_and_leaves_nothing() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let handle = job.start(&plugin).await.unwrap();
    assert_eq!((handle.version, handle.state()), (1, TaskState::Running));
    assert_eq!(handle.config.as_ref(), Some(&*job.task()), "the handle has the whole configuration");
    assert!(connects(job.address()), "{}", job.log());

    let id = job.id();
    let mut driver = plugin.driver();
    let stopping = driver.stop_task(stop(&id, Duration::from_secs(600), ""));
    soon(stopping).await.expect("it has no session to wait for");
    assert!(!lives(job.proxy()));
    let end = wait(&plugin, &id).await;
    let result = end.result.expect("without a result Nomad would take it for exit code 0");
    assert_eq!((result.exit_code, result.signal, end.err.as_str()), (0, 0, ""));

    plugin.driver().destroy_task(destroy(&id)).await.unwrap();
    let unknown = plugin.driver().wait_task(WaitTaskRequest { task_id: id }).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "task not found for given id"));
    until("the supervisor ends", || !lives(job.supervisor())).await;
    assert!(is_empty(&job.state_dir()));
    assert!(!connects(job.address()));
}

#[tokio::test]
async fn a_stop_without_time_kills_at_once() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    plugin.driver().stop_task(stop(&job.id(), Duration::ZERO, "SIGTERM")).await.unwrap();
    let result = wait(&plugin, &job.id()).await.result.unwrap();
    assert_eq!((result.exit_code, result.signal), (137, 9));
}

#[tokio::test]
async fn other_kill_signals_are_sent_and_an_unknown_one_drains_with_a_warning() {
    for (signal, expected) in [("SIGUSR1", (138, 10)), ("SIGNONSENSE", (0, 0))] {
        let mut job = Job::new();
        let plugin = Plugin::start(&job.state_dir()).await;
        job.start(&plugin).await.unwrap();
        plugin.driver().stop_task(stop(&job.id(), Duration::from_secs(5), signal)).await.unwrap();
        let result = wait(&plugin, &job.id()).await.result.unwrap();
        assert_eq!((result.exit_code, result.signal), expected, "{signal}");
        let (_, _, log) = plugin.kill().await;
        assert_eq!(log.contains("SIGNONSENSE"), signal == "SIGNONSENSE", "{log}");
    }
}

#[tokio::test]
async fn a_crash_of_the_proxy_is_reported_to_all_waiting_clients() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let id = job.id();
    let waiting = || wait(&plugin, &id);
    let crash = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        signal(&plugin, &job, "SIGABRT").await;
    };
    let (first, second, ()) = tokio::join!(waiting(), waiting(), crash);
    assert_eq!(first, second);
    let result = waiting().await.result.unwrap();
    assert_eq!((result.exit_code, result.signal), (134, 6));
}

#[tokio::test]
async fn a_running_task_is_not_started_again() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let again = job.start(&plugin).await.unwrap_err();
    assert!(
        again.code() == Code::FailedPrecondition && again.message().contains("is already running"),
        "{again}"
    );
    assert!(lives(job.proxy()));
    signal(&plugin, &job, "SIGKILL").await;
    wait(&plugin, &job.id()).await;
    job.start(&plugin).await.unwrap();
    assert!(lives(job.proxy()));
}

#[tokio::test]
async fn inspect_shows_a_task_before_and_after_its_exit() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let request = InspectTaskRequest { task_id: job.id() };
    let inspect = || async { plugin.driver().inspect_task(request.clone()).await.unwrap().into_inner() };
    let running = inspect().await;
    assert_eq!(running.driver.unwrap().attributes["pid"], job.proxy().to_string());
    let running = running.task.unwrap();
    assert_eq!((running.id.as_str(), running.name.as_str()), (job.id().as_str(), "proxy"));
    assert_eq!(running.state(), TaskState::Running);
    signal(&plugin, &job, "SIGKILL").await;
    wait(&plugin, &job.id()).await;
    let exited = inspect().await.task.unwrap();
    assert_eq!((exited.state(), exited.result.unwrap().signal), (TaskState::Exited, 9));
    assert_eq!(exited.started_at, running.started_at);
    assert!(exited.completed_at.unwrap().seconds >= exited.started_at.unwrap().seconds);
}

#[tokio::test]
async fn sighup_reloads_and_an_unknown_signal_is_an_error() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let signal = |signal: &str| SignalTaskRequest { task_id: job.id(), signal: signal.to_owned() };
    plugin.driver().signal_task(signal("SIGHUP")).await.unwrap();
    until("it reloads", || job.log().contains("reload")).await;
    let unknown = plugin.driver().signal_task(signal("SIGNONSENSE")).await.unwrap_err();
    assert!(unknown.message().contains("SIGNONSENSE") && unknown.message().contains("SIGHUP"), "{unknown}");
    assert!(lives(job.proxy()));
}
