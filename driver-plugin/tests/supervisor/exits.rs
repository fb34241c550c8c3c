//! How a task is stopped, and how its exit is reported.

use std::fs;
use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::process_id::ProcessId;
use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{
    LaunchSpec, RecoverError, Recovered, SupervisorClient, TaskExit, TaskRecord, destroy,
};

use crate::fixture::{Client, Fixture, exit_found, is_gone, set, soon, until};

fn parts(exit: &TaskExit) -> (i32, i32, bool, Option<&str>) {
    (exit.code, exit.signal, exit.oom_killed, exit.error.as_deref())
}

/// A task that holds its clients for longer than any test takes.
fn holding(fixture: &Fixture, run: &str) -> LaunchSpec {
    let mut launch = fixture.launch(run);
    set(&mut launch, "write.hold_timeout", "10m");
    launch
}

#[tokio::test]
async fn a_stop_waits_for_sessions_and_then_terminates_them() {
    let fixture = Fixture::new();
    for (run, signal) in [("1", None), ("2", Some(Signal::TERM)), ("3", Some(Signal::INT))] {
        let supervisor = fixture.start(holding(&fixture, run)).await;
        let client = fixture.connect().await.unwrap();
        until("the client is accepted", || fixture.sessions() == 1).await;
        let began = Instant::now();
        let exit = supervisor.stop(Duration::from_secs(1), signal).await.unwrap();
        assert_eq!(parts(&exit), (0, 0, false, None), "{signal:?}");
        assert!(!supervisor.record().proxy.alive(), "stop returns when it has exited");
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(1), "{took:?} with {signal:?}");
        client.answer().await;
        let again = soon(supervisor.stop(Duration::from_secs(600), signal)).await;
        assert_eq!(again.unwrap(), exit, "it has exited already");
    }
}

#[tokio::test]
async fn a_stop_without_sessions_does_not_wait() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let exit = soon(supervisor.stop(Duration::from_secs(600), None)).await.unwrap();
    assert_eq!(parts(&exit), (0, 0, false, None));
}

#[tokio::test]
async fn other_signals_are_sent_as_they_are() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let signal = Signal::parse("SIGUSR1").unwrap();
    let exit = supervisor.stop(Duration::from_secs(5), Some(signal)).await.unwrap();
    assert_eq!(parts(&exit), (138, 10, false, None));
}

#[tokio::test]
async fn with_a_kill_timeout_of_zero_it_is_killed_at_once() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(holding(&fixture, "1")).await;
    let client = fixture.connect().await.unwrap();
    let began = Instant::now();
    let exit = supervisor.stop(Duration::ZERO, None).await.unwrap();
    assert_eq!(parts(&exit), (137, 9, false, None));
    // After a request to drain it would be killed two seconds later.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    drop(client);
}

#[tokio::test]
async fn a_proxy_that_does_not_stop_is_killed_two_seconds_later() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    supervisor.signal(Signal::parse("SIGSTOP").unwrap()).await.unwrap();
    let began = Instant::now();
    let exit = soon(supervisor.stop(Duration::from_millis(500), None)).await.unwrap();
    assert_eq!(parts(&exit), (137, 9, false, None));
    assert!(began.elapsed() >= Duration::from_millis(2500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_proxy_of_a_stuck_supervisor_is_killed() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    supervisor.record().supervisor.signal(Signal::parse("SIGSTOP").unwrap()).unwrap();
    let exit = soon(supervisor.stop(Duration::from_millis(100), None)).await.unwrap();
    assert!(!supervisor.record().proxy.alive());
    assert!(exit.error.as_deref().is_some_and(|text| text.contains("supervisor")), "{exit:?}");
    assert!(!supervisor.record().supervisor.alive(), "it would start the proxy again");
}

#[tokio::test]
async fn the_exit_is_reported_while_the_supervisor_runs_and_afterwards() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    launch.keep_listening = Duration::from_secs(2);
    let supervisor = fixture.start(launch).await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let supervisor = supervisor.clone();
            tokio::spawn(async move { supervisor.exited().await })
        })
        .collect();
    supervisor.signal(Signal::KILL).await.unwrap();
    let exit = soon(supervisor.exited()).await;
    assert_eq!(parts(&exit), (137, 9, false, None));
    for waiter in waiting {
        assert_eq!(soon(waiter).await.unwrap(), exit);
    }
    assert!(supervisor.record().supervisor.alive(), "it keeps the sockets");
    assert_eq!(exit_found(supervisor.record()).await, exit);
    until("the supervisor has ended", || is_gone(&supervisor.record().supervisor)).await;
    assert_eq!(exit_found(supervisor.record()).await, exit);
    assert!(supervisor.launch_spec().await.is_err(), "the specification was in its memory only");

    destroy(supervisor.record()).await.unwrap();
    assert!(fixture.left().is_empty());
    destroy(supervisor.record()).await.unwrap();
    assert_eq!(supervisor.exited().await, exit, "a client that knows the exit keeps it");
    let lost = SupervisorClient::recover(supervisor.record()).await;
    assert!(matches!(lost, Err(RecoverError::Lost)), "{lost:?}");
}

#[tokio::test]
async fn destroying_a_task_kills_it_and_leaves_nothing() {
    let fixture = Fixture::new();
    let mut launch = holding(&fixture, "1");
    launch.keep_listening = Duration::from_millis(100);
    let supervisor = fixture.start(launch).await;
    soon(destroy(supervisor.record())).await.unwrap();
    assert!(!supervisor.record().proxy.alive());
    assert_eq!(parts(&supervisor.exited().await), (137, 9, false, None));
    until("nothing is left", || fixture.left().is_empty() && is_gone(&supervisor.record().supervisor)).await;
}

#[tokio::test]
async fn when_the_supervisor_is_killed_the_proxy_exits() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(holding(&fixture, "1")).await;
    let client = fixture.connect().await.unwrap();
    until("the client is accepted", || fixture.sessions() == 1).await;
    let record = supervisor.record().clone();
    let waiting = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.exited().await }
    });
    record.supervisor.signal(Signal::KILL).unwrap();
    soon(record.proxy.ended()).await;
    assert!(fixture.logged().contains("the supervisor is gone"), "{}", fixture.logged());
    client.answer().await;
    let exit = soon(waiting).await.unwrap();
    let text = "the supervisor ended early: it did not record how the task exited";
    assert_eq!(parts(&exit), (1, 0, false, Some(text)));
    assert_eq!(soon(supervisor.stop(Duration::from_secs(1), None)).await.unwrap(), exit);
    let lost = SupervisorClient::recover(&record).await;
    assert!(matches!(lost, Err(RecoverError::Lost)), "{lost:?}");
    assert!(Client::connect(fixture.address).await.is_err(), "nothing listens any more");
    until("the supervisor is reaped", || is_gone(&record.supervisor)).await;
    destroy(&record).await.unwrap();
    assert!(fixture.left().is_empty());
}

#[tokio::test]
async fn a_stuck_proxy_whose_supervisor_died_is_killed() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let record = supervisor.record();
    record.proxy.signal(Signal::parse("SIGSTOP").unwrap()).unwrap();
    record.supervisor.signal(Signal::KILL).unwrap();
    let lost = soon(SupervisorClient::recover(record)).await;
    assert!(matches!(lost, Err(RecoverError::Lost)), "{lost:?}");
    assert!(!record.proxy.alive());
}

#[tokio::test]
async fn a_record_of_other_processes_kills_nobody() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let record = supervisor.record().clone();
    let earlier = |process: &ProcessId| ProcessId { start_time: process.start_time - 1, ..process.clone() };
    let reused = TaskRecord {
        supervisor: earlier(&record.supervisor),
        proxy: earlier(&record.proxy),
        ..record.clone()
    };
    let other_task = SupervisorClient::recover(&reused).await;
    assert!(matches!(other_task, Err(RecoverError::OtherTask(_))), "{other_task:?}");

    let elsewhere = TaskRecord { directory: fixture.path("nowhere"), ..reused };
    let lost = soon(SupervisorClient::recover(&elsewhere)).await;
    assert!(matches!(lost, Err(RecoverError::Lost)), "{lost:?}");
    destroy(&elsewhere).await.unwrap();
    let other_boot = ProcessId { boot_id: "another boot".to_owned(), ..record.proxy.clone() };
    assert!(other_boot.signal(Signal::KILL).is_err());
    assert!(record.proxy.alive() && record.supervisor.alive(), "they are other processes");
    assert!(matches!(SupervisorClient::recover(&record).await, Ok(Recovered::Running(_))));
}

#[tokio::test]
async fn an_invalid_exit_file_is_an_error() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let record = supervisor.record();
    fs::write(record.directory.join("exit.json"), "{\"code\":0").unwrap();
    record.supervisor.signal(Signal::KILL).unwrap();
    let exit = soon(supervisor.exited()).await;
    assert!(exit.error.as_deref().is_some_and(|text| text.contains("EOF while parsing")), "{exit:?}");
    assert_eq!(exit.code, 1);
}
