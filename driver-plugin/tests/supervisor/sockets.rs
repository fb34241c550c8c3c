//! Listening sockets: kept when the relay is gone, handed to the next task, and closed in the end.

use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{Record, StartError, Supervisor};

use crate::scene::{Client, Scene, is_gone, listening, own_address, set, soon, until};

async fn crash(supervisor: &Supervisor) {
    supervisor.signal(Signal::KILL).await.unwrap();
    let exit = soon(supervisor.exited()).await;
    assert_eq!((exit.code, exit.signal), (137, 9));
}

/// How many sockets a supervisor keeps of its scene's address.
fn kept(record: &Record, scene: &Scene) -> usize {
    listening(&record.supervisor, scene.address).len()
}

#[tokio::test]
async fn connects_wait_for_the_next_task_which_gets_the_same_sockets() {
    let scene = Scene::new();
    let first = scene.start(scene.launch("1")).await;
    let sockets = listening(&first.record().relay, scene.address);
    assert_eq!(sockets.len(), 1);
    assert_eq!(listening(&first.record().supervisor, scene.address), sockets);
    crash(&first).await;

    let waiting = [scene.connect().await.unwrap(), scene.connect().await.unwrap()];
    let second = scene.start(scene.launch("2")).await;
    assert_eq!(listening(&second.record().relay, scene.address), sockets);
    for client in waiting {
        assert_eq!(client.answer().await, Some('E'), "it is refused after its hold, not cut off");
    }
    until("the first has nothing to keep any more and ends", || is_gone(&first.record().supervisor)).await;
    assert_eq!(soon(first.exited()).await.code, 137, "its exit stays");
    assert_eq!(scene.connect().await.unwrap().answer().await, Some('E'));
}

#[tokio::test]
async fn a_stop_leaves_those_who_come_too_late_to_the_next_task() {
    let scene = Scene::new();
    let mut launch = scene.launch("1");
    set(&mut launch, "write.hold_timeout", "10m");
    let first = scene.start(launch).await;
    let held = scene.connect().await.unwrap();
    until("it is accepted", || scene.sessions() == 1).await;
    let stopping = tokio::spawn(async move { first.stop(Duration::from_secs(2), None).await.unwrap() });
    until("it drains", || scene.logged().contains("draining")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let late = scene.connect().await.unwrap();
    let exit = soon(stopping).await.unwrap();
    assert_eq!((exit.code, exit.signal), (0, 0));
    assert_ne!(held.answer().await, Some('R'), "it was severed");
    let _second = scene.start(scene.launch("2")).await;
    assert_eq!(late.answer().await, Some('E'), "the second one answers after its own hold of 300 ms");
}

#[tokio::test]
async fn a_task_that_drains_yields_to_one_that_does_not_wait_for_its_end() {
    let scene = Scene::new();
    let mut launch = scene.launch("1");
    set(&mut launch, "write.hold_timeout", "10m");
    let first = scene.start(launch).await;
    let sockets = listening(&first.record().supervisor, scene.address);
    let held = scene.connect().await.unwrap();
    until("it is accepted", || scene.sessions() == 1).await;
    let stopping = tokio::spawn({
        let first = first.clone();
        async move { first.stop(Duration::from_secs(8), None).await.unwrap() }
    });
    until("it drains", || scene.logged().contains("draining")).await;
    let late = scene.connect().await.unwrap();
    let second = scene.start(scene.launch("2")).await;
    assert_eq!(listening(&second.record().relay, scene.address), sockets);
    assert_eq!(late.answer().await, Some('E'));
    assert_eq!(scene.connect().await.unwrap().answer().await, Some('E'));
    assert!(first.record().relay.alive(), "the held client has its time");
    assert!(!stopping.is_finished());
    drop(held);
    assert_eq!(soon(stopping).await.unwrap().code, 0);
}

#[tokio::test]
async fn no_connect_fails_while_relays_crash_and_follow_each_other() {
    let scene = Scene::new();
    let address = scene.address;
    let mut supervisor = scene.start(scene.launch("0")).await;
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
        // A drain severs nobody who came before it here: all are answered after their hold.
        if run % 2 == 0 {
            soon(supervisor.stop(Duration::from_secs(5), None)).await.unwrap();
        } else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            supervisor.stop(Duration::from_secs(5), None).await.unwrap();
        }
        supervisor = scene.start(scene.launch(&run.to_string())).await;
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
async fn when_the_time_is_over_nobody_listens_any_more() {
    let scene = Scene::new();
    let mut launch = scene.launch("1");
    launch.keep_listening = Duration::from_secs(1);
    let supervisor = scene.start(launch).await;
    crash(&supervisor).await;
    let began = Instant::now();
    let waiting = scene.connect().await.unwrap();
    until("the supervisor ends", || is_gone(&supervisor.record().supervisor)).await;
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(waiting.answer().await, None, "nobody came");
    let refused = Client::connect(scene.address).await.err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_task_that_runs_yields_nothing() {
    let scene = Scene::new();
    let first = scene.start(scene.launch("1")).await;
    let sockets = listening(&first.record().relay, scene.address);
    let second = scene.start(scene.launch("2")).await;
    assert_eq!(listening(&first.record().relay, scene.address), sockets);
    assert!(listening(&second.record().relay, scene.address).is_disjoint(&sockets));
    for _ in 0..20 {
        assert_eq!(scene.connect().await.unwrap().answer().await, Some('E'), "whoever accepted it");
    }
}

#[tokio::test]
async fn every_socket_is_served_that_several_tasks_left_behind() {
    let scene = Scene::new();
    let left = [scene.start(scene.launch("1")).await, scene.start(scene.launch("2")).await];
    for supervisor in &left {
        crash(supervisor).await;
    }
    let mut waiting = Vec::new();
    for _ in 0..16 {
        waiting.push(scene.connect().await.unwrap());
    }
    let heir = scene.start(scene.launch("3")).await;
    for client in waiting {
        assert_eq!(client.answer().await, Some('E'), "whichever socket has it in its backlog");
    }
    assert_eq!(kept(heir.record(), &scene), 2, "none is lost");
}

#[tokio::test]
async fn what_the_next_task_does_not_want_is_kept_to_the_end() {
    let scene = Scene::new();
    let other = own_address();
    let mut launch = scene.launch("1");
    set(&mut launch, "read.listen", &other.to_string());
    launch.keep_listening = Duration::from_secs(4);
    let first = scene.start(launch).await;
    crash(&first).await;
    let second = scene.start(scene.launch("2")).await;
    assert_eq!(listening(&second.record().relay, scene.address).len(), 1);
    assert_eq!(kept(first.record(), &scene), 0);
    assert_eq!(listening(&first.record().supervisor, other).len(), 1);
    let waiting = Client::connect(other).await.unwrap();
    until("its time is over", || is_gone(&first.record().supervisor)).await;
    assert_eq!(waiting.answer().await, None);
}

#[tokio::test]
async fn a_start_that_fails_keeps_what_it_had_taken_over() {
    let scene = Scene::new();
    let first = scene.start(scene.launch("1")).await;
    let sockets = listening(&first.record().relay, scene.address);
    crash(&first).await;
    let waiting = scene.connect().await.unwrap();
    let admin = own_address();
    let taken = std::net::TcpListener::bind(admin).unwrap();
    let mut launch = scene.launch("2");
    set(&mut launch, "admin.listen", &admin.to_string());
    assert!(matches!(scene.try_start(launch.clone()).await, Err(StartError::Transient(_))));
    drop(taken);
    launch.task.id = "0a1b/proxy/3".to_owned();
    let third = scene.start(launch).await;
    assert_eq!(listening(&third.record().relay, scene.address), sockets);
    assert_eq!(waiting.answer().await, Some('E'));
    until("only one is left", || scene.left().len() == 2).await;
}

#[tokio::test]
async fn sockets_arrive_that_do_not_fit_into_one_message() {
    let scene = Scene::new();
    let addresses: Vec<_> = (0..90).map(|_| own_address()).collect();
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut launch = scene.launch("1");
    set(&mut launch, "write.listen", &list.join(","));
    let first = scene.start(launch.clone()).await;
    let sockets = |supervisor: &Supervisor| -> Vec<_> {
        addresses.iter().map(|addr| listening(&supervisor.record().relay, *addr)).collect()
    };
    let before = sockets(&first);
    assert!(before.iter().all(|of_one| of_one.len() == 1));
    crash(&first).await;
    launch.task.id = "0a1b/proxy/2".to_owned();
    let second = scene.start(launch).await;
    assert_eq!(sockets(&second), before);
}
