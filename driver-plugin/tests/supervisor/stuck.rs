//! Supervisors that do not reply: every wait ends, and no proxy process goes on accepting that nobody can reach.

use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{RecoverError, SupervisorClient, destroy};

use crate::fixture::{Client, Fixture, soon};

/// The bound of each of these waits, on a machine that has other things to do.
const BOUND: Duration = Duration::from_secs(25);

async fn with_a_stopped_supervisor(fixture: &Fixture) -> SupervisorClient {
    let supervisor = fixture.start(fixture.launch("1")).await;
    supervisor.record().supervisor.signal(Signal::parse("SIGSTOP").unwrap()).unwrap();
    supervisor
}

async fn nothing_is_left(supervisor: &SupervisorClient, fixture: &Fixture, began: Instant) {
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert!(!supervisor.record().proxy.alive() && !supervisor.record().supervisor.alive());
    let refused = Client::connect(fixture.address).await.err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_task_that_cannot_be_recovered_does_not_go_on_accepting() {
    let fixture = Fixture::new();
    let supervisor = with_a_stopped_supervisor(&fixture).await;
    let began = Instant::now();
    let error = soon(SupervisorClient::recover(supervisor.record())).await.unwrap_err();
    assert!(matches!(error, RecoverError::Unresponsive(_)), "{error:?}");
    assert!(error.to_string().contains("killed with its proxy process"), "{error}");
    nothing_is_left(&supervisor, &fixture, began).await;
}

#[tokio::test]
async fn a_stop_ends() {
    let fixture = Fixture::new();
    let supervisor = with_a_stopped_supervisor(&fixture).await;
    let began = Instant::now();
    soon(supervisor.stop(Duration::from_millis(100), None)).await.unwrap();
    soon(supervisor.exited()).await;
    nothing_is_left(&supervisor, &fixture, began).await;
}

#[tokio::test]
async fn a_destroy_kills_before_it_forgets() {
    let fixture = Fixture::new();
    let supervisor = with_a_stopped_supervisor(&fixture).await;
    let began = Instant::now();
    soon(destroy(supervisor.record())).await.unwrap();
    nothing_is_left(&supervisor, &fixture, began).await;
    assert!(fixture.left().is_empty());
}

#[tokio::test]
async fn the_exit_of_the_process_is_noticed() {
    let fixture = Fixture::new();
    let supervisor = with_a_stopped_supervisor(&fixture).await;
    let waiting = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.exited().await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "the process runs");
    let began = Instant::now();
    supervisor.record().proxy.signal(Signal::KILL).unwrap();
    let exit = soon(waiting).await.unwrap();
    assert!(exit.error.is_some_and(|text| text.contains("did not tell how the task exited")));
    nothing_is_left(&supervisor, &fixture, began).await;
}

#[tokio::test]
async fn a_start_ends_the_earlier_run_of_its_task_and_does_not_wait_for_others() {
    let fixture = Fixture::new();
    let earlier = with_a_stopped_supervisor(&fixture).await;
    let mut next = fixture.launch("1");
    next.task.id = "0a1b1/proxy/next".to_owned();
    let began = Instant::now();
    let started = soon(fixture.start(next)).await;
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert!(!earlier.record().proxy.alive() && !earlier.record().supervisor.alive());
    assert!(started.record().proxy.alive());
    assert_eq!(fixture.connect().await.unwrap().answer().await, Some('E'), "one process accepts");
}

#[tokio::test]
async fn an_address_of_a_task_of_a_stuck_supervisor_is_refused_to_other_tasks() {
    let fixture = Fixture::new();
    let stuck = with_a_stopped_supervisor(&fixture).await;
    let error = soon(fixture.try_start(fixture.launch("2"))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {}: another program listens there", fixture.address)
    );
    assert!(stuck.record().proxy.alive(), "it serves its clients");
}
