//! Ends: how a relay is stopped, what is known of it afterwards, and who learns of it.

use std::fs;
use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::identity::Identity;
use nomad_driver_pg_leader_proxy::signal::{self, Signal};
use nomad_driver_pg_leader_proxy::supervisor::{Exit, Found, Launch, Record, RecoverError, Supervisor};

use crate::scene::{Client, Scene, exit_found, is_gone, set, soon, until};

fn ending(exit: &Exit) -> (i32, i32, bool, Option<&str>) {
    (exit.code, exit.signal, exit.oom_killed, exit.error.as_deref())
}

/// A launch whose clients are held for longer than any test takes.
fn holding(scene: &Scene, run: &str) -> Launch {
    let mut launch = scene.launch(run);
    set(&mut launch, "write.hold_timeout", "10m");
    launch
}

#[tokio::test]
async fn a_stop_waits_for_the_sessions_and_then_severs_them() {
    let scene = Scene::new();
    for (run, signal) in [("1", None), ("2", Some(Signal::TERM)), ("3", Some(Signal::INT))] {
        let supervisor = scene.start(holding(&scene, run)).await;
        let client = scene.connect().await.unwrap();
        until("the client is there", || scene.sessions() == 1).await;
        let began = Instant::now();
        let exit = supervisor.stop(Duration::from_secs(1), signal).await.unwrap();
        assert_eq!(ending(&exit), (0, 0, false, None), "{signal:?}");
        assert!(!supervisor.record().relay.alive(), "stop returns when it has ended");
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(1), "{took:?} with {signal:?}");
        client.answer().await;
        let again = soon(supervisor.stop(Duration::from_secs(600), signal)).await;
        assert_eq!(again.unwrap(), exit, "it had ended already");
    }
}

#[tokio::test]
async fn a_stop_without_sessions_does_not_wait() {
    let scene = Scene::new();
    let supervisor = scene.start(scene.launch("1")).await;
    let exit = soon(supervisor.stop(Duration::from_secs(600), None)).await.unwrap();
    assert_eq!(ending(&exit), (0, 0, false, None));
}

#[tokio::test]
async fn any_other_signal_is_sent_as_it_is() {
    let scene = Scene::new();
    let supervisor = scene.start(scene.launch("1")).await;
    let signal = signal::parse("SIGUSR1").unwrap();
    let exit = supervisor.stop(Duration::from_secs(5), Some(signal)).await.unwrap();
    assert_eq!(ending(&exit), (138, 10, false, None));
}

#[tokio::test]
async fn without_patience_it_is_killed_at_once() {
    let scene = Scene::new();
    let supervisor = scene.start(holding(&scene, "1")).await;
    let client = scene.connect().await.unwrap();
    let began = Instant::now();
    let exit = supervisor.stop(Duration::ZERO, None).await.unwrap();
    assert_eq!(ending(&exit), (137, 9, false, None));
    // One that is asked first and does not obey is killed after two seconds.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    drop(client);
}

#[tokio::test]
async fn one_that_does_not_obey_is_killed_two_seconds_later() {
    let scene = Scene::new();
    let supervisor = scene.start(scene.launch("1")).await;
    supervisor.signal(signal::parse("SIGSTOP").unwrap()).await.unwrap();
    let began = Instant::now();
    let exit = soon(supervisor.stop(Duration::from_millis(500), None)).await.unwrap();
    assert_eq!(ending(&exit), (137, 9, false, None));
    assert!(began.elapsed() >= Duration::from_millis(2500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stuck_supervisor_does_not_keep_its_relay_alive() {
    let scene = Scene::new();
    let supervisor = scene.start(scene.launch("1")).await;
    supervisor.record().supervisor.signal(signal::parse("SIGSTOP").unwrap().raw()).unwrap();
    let exit = soon(supervisor.stop(Duration::from_millis(100), None)).await.unwrap();
    assert!(!supervisor.record().relay.alive());
    assert_eq!(exit.error.as_deref(), Some("the supervisor does not answer"));
}

#[tokio::test]
async fn the_true_exit_is_found_while_the_supervisor_lives_and_afterwards() {
    let scene = Scene::new();
    let mut launch = scene.launch("1");
    launch.keep_listening = Duration::from_secs(2);
    let supervisor = scene.start(launch).await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let supervisor = supervisor.clone();
            tokio::spawn(async move { supervisor.exited().await })
        })
        .collect();
    supervisor.record().relay.signal(Signal::KILL.raw()).unwrap();
    let exit = soon(supervisor.exited()).await;
    assert_eq!(ending(&exit), (137, 9, false, None));
    for waiter in waiting {
        assert_eq!(soon(waiter).await.unwrap(), exit);
    }
    assert!(supervisor.record().supervisor.alive(), "it keeps the sockets");
    assert_eq!(exit_found(supervisor.record()).await, exit);
    until("the supervisor ends when its time is over", || is_gone(&supervisor.record().supervisor)).await;
    assert_eq!(exit_found(supervisor.record()).await, exit);
    assert!(supervisor.launch().await.is_err(), "its memory is gone");

    supervisor.record().destroy().await.unwrap();
    assert!(scene.left().is_empty());
    supervisor.record().destroy().await.unwrap();
    assert_eq!(supervisor.exited().await, exit, "whoever knew it still does");
    let lost = Supervisor::reconnect(supervisor.record()).await;
    assert!(matches!(lost, Err(RecoverError::Lost)), "{lost:?}");
}

#[tokio::test]
async fn to_destroy_a_task_ends_it_and_leaves_nothing() {
    let scene = Scene::new();
    let mut launch = holding(&scene, "1");
    launch.keep_listening = Duration::from_millis(100);
    let supervisor = scene.start(launch).await;
    soon(supervisor.destroy()).await.unwrap();
    assert!(!supervisor.record().relay.alive());
    assert_eq!(ending(&supervisor.exited().await), (137, 9, false, None));
    until("nothing is left", || scene.left().is_empty() && is_gone(&supervisor.record().supervisor)).await;
}

#[tokio::test]
async fn when_the_supervisor_is_killed_the_relay_ends_itself() {
    let scene = Scene::new();
    let supervisor = scene.start(holding(&scene, "1")).await;
    let client = scene.connect().await.unwrap();
    until("the client is there", || scene.sessions() == 1).await;
    let record = supervisor.record().clone();
    let waiting = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.exited().await }
    });
    record.supervisor.signal(Signal::KILL.raw()).unwrap();
    soon(record.relay.ended()).await;
    assert!(scene.logged().contains("whoever held this process is gone"), "{}", scene.logged());
    client.answer().await;
    let exit = soon(waiting).await.unwrap();
    let text = "the supervisor ended early: it has left no word of how the task ended";
    assert_eq!(ending(&exit), (1, 0, false, Some(text)));
    assert_eq!(soon(supervisor.stop(Duration::from_secs(1), None)).await.unwrap(), exit);
    let lost = Supervisor::reconnect(&record).await;
    assert!(matches!(lost, Err(RecoverError::Lost)), "{lost:?}");
    assert!(Client::connect(scene.address).await.is_err(), "nobody listens any more");
    until("the dead supervisor has been reaped", || is_gone(&record.supervisor)).await;
    record.destroy().await.unwrap();
    assert!(scene.left().is_empty());
}

#[tokio::test]
async fn a_relay_that_is_stuck_when_its_supervisor_dies_is_killed() {
    let scene = Scene::new();
    let supervisor = scene.start(scene.launch("1")).await;
    let record = supervisor.record();
    record.relay.signal(signal::parse("SIGSTOP").unwrap().raw()).unwrap();
    record.supervisor.signal(Signal::KILL.raw()).unwrap();
    let lost = soon(Supervisor::reconnect(record)).await;
    assert!(matches!(lost, Err(RecoverError::Lost)), "{lost:?}");
    assert!(!record.relay.alive());
}

#[tokio::test]
async fn a_record_that_means_others_ends_nobody() {
    let scene = Scene::new();
    let supervisor = scene.start(scene.launch("1")).await;
    let record = supervisor.record().clone();
    let earlier = |process: &Identity| Identity { start_time: process.start_time - 1, ..process.clone() };
    let reused =
        Record { supervisor: earlier(&record.supervisor), relay: earlier(&record.relay), ..record.clone() };
    let mistaken = Supervisor::reconnect(&reused).await;
    assert!(matches!(mistaken, Err(RecoverError::Mistaken(_))), "{mistaken:?}");

    let elsewhere = Record { directory: scene.path("nowhere"), ..reused };
    let lost = soon(Supervisor::reconnect(&elsewhere)).await;
    assert!(matches!(lost, Err(RecoverError::Lost)), "{lost:?}");
    elsewhere.destroy().await.unwrap();
    let other_boot = Identity { boot_id: "of another boot".to_owned(), ..record.relay.clone() };
    assert!(other_boot.signal(Signal::KILL.raw()).is_err());
    assert!(record.relay.alive() && record.supervisor.alive(), "they are not the ones that were meant");
    assert!(matches!(Supervisor::reconnect(&record).await, Ok(Found::Running(_))));
}

#[tokio::test]
async fn an_exit_that_makes_no_sense_is_not_believed() {
    let scene = Scene::new();
    let supervisor = scene.start(scene.launch("1")).await;
    let record = supervisor.record();
    fs::write(record.directory.join("exit.json"), "{\"code\":0").unwrap();
    record.supervisor.signal(Signal::KILL.raw()).unwrap();
    let exit = soon(supervisor.exited()).await;
    assert!(exit.error.as_deref().is_some_and(|text| text.contains("EOF while parsing")), "{exit:?}");
    assert_eq!(exit.code, 1);
}
