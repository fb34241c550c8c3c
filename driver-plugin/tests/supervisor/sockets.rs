//! Listening sockets: kept after a task has exited, handed over to the next one, and closed in the end.

use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{StartError, SupervisorClient, TaskRecord};

use crate::fixture::{Client, Fixture, is_gone, listening, own_address, set, soon, until};

async fn crash(supervisor: &SupervisorClient) {
    supervisor.signal(Signal::KILL).await.unwrap();
    let exit = soon(supervisor.exited()).await;
    assert_eq!((exit.code, exit.signal), (137, 9));
}

/// How many sockets of the fixture's address a supervisor keeps.
fn kept(record: &TaskRecord, fixture: &Fixture) -> usize {
    listening(&record.supervisor, fixture.address).len()
}

#[tokio::test]
async fn connections_wait_for_the_next_task_which_takes_the_same_sockets_over() {
    let fixture = Fixture::new();
    let first = fixture.start(fixture.launch("1")).await;
    let sockets = listening(&first.record().proxy, fixture.address);
    assert_eq!(sockets.len(), 1);
    assert_eq!(listening(&first.record().supervisor, fixture.address), sockets);
    crash(&first).await;

    let waiting = [fixture.connect().await.unwrap(), fixture.connect().await.unwrap()];
    let second = fixture.start(fixture.launch("2")).await;
    assert_eq!(listening(&second.record().proxy, fixture.address), sockets);
    for client in waiting {
        assert_eq!(client.answer().await, Some('E'), "it is answered after its hold");
    }
    until("the first supervisor ends without sockets", || is_gone(&first.record().supervisor)).await;
    assert_eq!(soon(first.exited()).await.code, 137, "its exit is still known");
    assert_eq!(fixture.connect().await.unwrap().answer().await, Some('E'));
}

#[tokio::test]
async fn connections_during_a_stop_are_left_to_the_next_task() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    set(&mut launch, "write.hold_timeout", "10m");
    let first = fixture.start(launch).await;
    let held = fixture.connect().await.unwrap();
    until("it is accepted", || fixture.sessions() == 1).await;
    let stopping = tokio::spawn(async move { first.stop(Duration::from_secs(2), None).await.unwrap() });
    until("it drains", || fixture.logged().contains("draining")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let late = fixture.connect().await.unwrap();
    let exit = soon(stopping).await.unwrap();
    assert_eq!((exit.code, exit.signal), (0, 0));
    assert_ne!(held.answer().await, Some('R'), "it was terminated");
    let _second = fixture.start(fixture.launch("2")).await;
    assert_eq!(late.answer().await, Some('E'), "the second task answers after its own hold of 300 ms");
}

#[tokio::test]
async fn a_task_that_drains_hands_its_sockets_over_before_its_end() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    set(&mut launch, "write.hold_timeout", "10m");
    let first = fixture.start(launch).await;
    let sockets = listening(&first.record().supervisor, fixture.address);
    let held = fixture.connect().await.unwrap();
    until("it is accepted", || fixture.sessions() == 1).await;
    let stopping = tokio::spawn({
        let first = first.clone();
        async move { first.stop(Duration::from_secs(60), None).await.unwrap() }
    });
    until("it drains", || fixture.logged().contains("draining")).await;
    let late = fixture.connect().await.unwrap();
    let second = fixture.start(fixture.launch("2")).await;
    assert_eq!(listening(&second.record().proxy, fixture.address), sockets);
    assert_eq!(late.answer().await, Some('E'));
    assert_eq!(fixture.connect().await.unwrap().answer().await, Some('E'));
    assert!(first.record().proxy.alive(), "the held client may stay");
    assert!(!stopping.is_finished());
    drop(held);
    assert_eq!(soon(stopping).await.unwrap().code, 0);
}

#[tokio::test]
async fn no_connection_fails_while_tasks_are_replaced() {
    let fixture = Fixture::new();
    let address = fixture.address;
    let mut supervisor = fixture.start(fixture.launch("0")).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let clients = tokio::spawn(async move {
        let mut clients = tokio::task::JoinSet::new();
        while !*stopped.borrow() {
            clients.spawn(async move {
                let began = Instant::now();
                let answer = Client::connect(address).await.unwrap().answer().await;
                (answer, began.elapsed())
            });
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        clients.join_all().await
    });
    for run in 1..=4 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // A drain terminates no client here: all are answered after their hold.
        if run % 2 == 0 {
            soon(supervisor.stop(Duration::from_secs(5), None)).await.unwrap();
        } else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            supervisor.stop(Duration::from_secs(5), None).await.unwrap();
        }
        supervisor = fixture.start(fixture.launch(&run.to_string())).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.send(true).unwrap();
    let outcomes = soon(clients).await.unwrap();
    assert!(outcomes.len() > 100, "only {} clients", outcomes.len());
    let failed = outcomes.iter().filter(|(answer, _)| *answer != Some('E')).count();
    assert_eq!(failed, 0, "of {}", outcomes.len());
    let slowest = outcomes.iter().map(|(_, took)| *took).max().unwrap();
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}

#[tokio::test]
async fn sockets_are_closed_after_keep_listening() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    launch.keep_listening = Duration::from_secs(1);
    let supervisor = fixture.start(launch).await;
    crash(&supervisor).await;
    let began = Instant::now();
    let waiting = fixture.connect().await.unwrap();
    until("the supervisor ends", || is_gone(&supervisor.record().supervisor)).await;
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(waiting.answer().await, None, "no task took it over");
    let refused = Client::connect(fixture.address).await.err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn sockets_that_the_next_task_does_not_need_are_kept_for_their_time() {
    let fixture = Fixture::new();
    let other = own_address();
    let mut launch = fixture.launch("1");
    set(&mut launch, "read.listen", &other.to_string());
    launch.keep_listening = Duration::from_secs(4);
    let first = fixture.start(launch).await;
    crash(&first).await;
    let second = fixture.start(fixture.launch("2")).await;
    assert_eq!(listening(&second.record().proxy, fixture.address).len(), 1);
    assert_eq!(kept(first.record(), &fixture), 0);
    assert_eq!(listening(&first.record().supervisor, other).len(), 1);
    let waiting = Client::connect(other).await.unwrap();
    until("its supervisor ends", || is_gone(&first.record().supervisor)).await;
    assert_eq!(waiting.answer().await, None);
}

#[tokio::test]
async fn a_failed_start_keeps_the_sockets_that_it_took_over() {
    let fixture = Fixture::new();
    let first = fixture.start(fixture.launch("1")).await;
    let sockets = listening(&first.record().proxy, fixture.address);
    crash(&first).await;
    let waiting = fixture.connect().await.unwrap();
    let admin = own_address();
    let taken = std::net::TcpListener::bind(admin).unwrap();
    let mut launch = fixture.launch("2");
    set(&mut launch, "admin.listen", &admin.to_string());
    assert!(matches!(fixture.try_start(launch.clone()).await, Err(StartError::Transient(_))));
    drop(taken);
    launch.task.id = "0a1b/proxy/3".to_owned();
    let third = fixture.start(launch).await;
    assert_eq!(listening(&third.record().proxy, fixture.address), sockets);
    assert_eq!(waiting.answer().await, Some('E'));
    until("the failed start is gone", || fixture.left().len() == 2).await;
}

#[tokio::test]
async fn more_sockets_than_fit_into_one_message_are_handed_over() {
    let fixture = Fixture::new();
    let addresses: Vec<_> = (0..90).map(|_| own_address()).collect();
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut launch = fixture.launch("1");
    set(&mut launch, "write.listen", &list.join(","));
    let first = fixture.start(launch.clone()).await;
    let sockets = |supervisor: &SupervisorClient| -> Vec<_> {
        addresses.iter().map(|addr| listening(&supervisor.record().proxy, *addr)).collect()
    };
    let before = sockets(&first);
    assert!(before.iter().all(|of_one| of_one.len() == 1));
    crash(&first).await;
    launch.task.id = "0a1b/proxy/2".to_owned();
    let second = fixture.start(launch).await;
    assert_eq!(sockets(&second), before);
}
