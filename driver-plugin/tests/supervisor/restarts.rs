//! A proxy process that crashes is started again by its supervisor, on the same sockets, a few times.

use std::fs;
use std::time::Duration;

use nomad_driver_pg_leader_proxy::process_id::ProcessId;
use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{EventStream, Recovered, SupervisorClient};

use crate::fixture::{Fixture, given, listening, soon, until};

/// The task as the next plugin finds it.
async fn recovered(supervisor: &SupervisorClient) -> SupervisorClient {
    match SupervisorClient::recover(supervisor.record()).await.unwrap() {
        Recovered::Running(supervisor) => supervisor,
        Recovered::Exited(exit) => panic!("it exited: {exit:?}"),
    }
}

/// Waits for another process than this one.
async fn successor(supervisor: &SupervisorClient, of: &ProcessId) -> ProcessId {
    let other = async {
        loop {
            let proxy = recovered(supervisor).await.proxy();
            if proxy != *of {
                return proxy;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(other).await
}

async fn event_with(events: &mut EventStream, words: &str) -> String {
    let told = async {
        while let Some(event) = events.next().await {
            if event.event.message.contains(words) {
                return event.event.message;
            }
        }
        panic!("no event contains `{words}`");
    };
    soon(told).await
}

#[tokio::test]
async fn a_crashed_proxy_is_started_again_on_the_same_sockets_with_an_event() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let waiting = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.exited().await }
    });
    let first = supervisor.record().proxy.clone();
    let sockets = listening(&first, fixture.address);
    first.signal(Signal::KILL).unwrap();
    first.ended().await;
    let client = fixture.connect().await.unwrap();
    assert_eq!(client.answer().await, Some('E'), "it waited in the backlog");

    let second = successor(&supervisor, &first).await;
    assert_eq!(listening(&second, fixture.address), sockets);
    let mut events = supervisor.events().await.unwrap();
    let event = event_with(&mut events, "started again in").await;
    assert!(event.starts_with("the proxy process was killed by signal 9"), "{event}");
    assert!(event.contains("restart 1 of at most 5 within 5m"), "{event}");
    until("the plugin knows the process", || supervisor.proxy() == second).await;
    assert!(!waiting.is_finished(), "the task has not exited");

    supervisor.signal(Signal::HUP).await.unwrap();
    until("it is reloaded", || fixture.logged().contains("configuration reloaded")).await;
    let exit = soon(supervisor.stop(Duration::from_secs(5), None)).await.unwrap();
    assert_eq!((exit.code, exit.signal), (0, 0));
    assert_eq!(soon(waiting).await.unwrap(), exit);
    assert!(!second.alive());
}

#[tokio::test]
async fn after_five_restarts_the_task_exits_and_its_sockets_are_kept() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let mut proxy = supervisor.record().proxy.clone();
    for _ in 0..5 {
        proxy.signal(Signal::KILL).unwrap();
        proxy = successor(&supervisor, &proxy).await;
        assert_eq!(fixture.connect().await.unwrap().answer().await, Some('E'));
    }
    proxy.signal(Signal::KILL).unwrap();
    let exit = soon(supervisor.exited()).await;
    assert_eq!((exit.code, exit.signal), (137, 9));
    let mut events = supervisor.events().await.unwrap();
    event_with(&mut events, "Nomad's restart policy decides").await;
    assert_eq!(listening(&supervisor.record().supervisor, fixture.address).len(), 1);
}

#[tokio::test]
async fn a_proxy_that_cannot_start_again_ends_the_task() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    let password = fixture.path("password");
    fs::write(&password, "a secret").unwrap();
    launch.settings.push(given("probe.password_file", password.to_str().unwrap()));
    launch.environment.clear();
    let supervisor = fixture.start(launch).await;
    fs::remove_file(&password).unwrap();
    supervisor.record().proxy.signal(Signal::KILL).unwrap();
    let exit = soon(supervisor.exited()).await;
    assert_eq!(exit.signal, 9, "the crash is the reason");
    let mut events = supervisor.events().await.unwrap();
    let event = event_with(&mut events, "could not be started again").await;
    assert!(event.contains("probe.password_file"), "{event}");
}

#[tokio::test]
async fn a_proxy_that_hangs_while_it_is_started_again_can_be_stopped() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let first = supervisor.record().proxy.clone();
    first.signal(Signal::KILL).unwrap();
    let stopped = soon(supervisor.stop(Duration::from_millis(100), None)).await.unwrap();
    assert!([(137, 9), (0, 0)].contains(&(stopped.code, stopped.signal)), "{stopped:?}");
    let last = listening(&supervisor.record().supervisor, fixture.address);
    assert_eq!(last.len(), 1, "the sockets are kept for the next task");
}
