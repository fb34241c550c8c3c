//! One address has one live task, and only a task of the same job is handed the sockets of another one.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{JobName, LaunchSpec, Launcher, StartError, SupervisorClient};

use crate::fixture::{Client, Fixture, is_gone, listening, set, soon, until};

fn of_another_job(fixture: &Fixture, run: &str) -> LaunchSpec {
    let job = JobName { namespace: "other".to_owned(), id: "proxy".to_owned() };
    LaunchSpec { job, ..fixture.launch(run) }
}

async fn refusal(fixture: &Fixture, launch: LaunchSpec) -> String {
    match fixture.try_start(launch).await {
        Err(error @ StartError::Occupied(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn crash(supervisor: &SupervisorClient) {
    supervisor.signal(Signal::KILL).await.unwrap();
    soon(supervisor.exited()).await;
}

#[tokio::test]
async fn an_address_on_which_a_task_accepts_is_refused_to_every_other() {
    let fixture = Fixture::new();
    let first = fixture.start(fixture.launch("1")).await;
    let sockets = listening(&first.record().proxy, fixture.address);
    for launch in [fixture.launch("2"), of_another_job(&fixture, "3")] {
        let text = refusal(&fixture, launch).await;
        assert!(
            text.starts_with(&format!("cannot listen on {}: the task `proxy`", fixture.address)),
            "{text}"
        );
        assert!(text.contains("job `proxy` (namespace `default`, allocation 0a1b1)"), "{text}");
    }
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, fixture.address.port()));
    let mut overlapping = fixture.launch("4");
    set(&mut overlapping, "write.listen", &everywhere.to_string());
    let text = refusal(&fixture, overlapping).await;
    assert!(text.contains(&everywhere.to_string()) && text.contains(&fixture.address.to_string()), "{text}");
    assert_eq!(listening(&first.record().proxy, fixture.address), sockets);
    for _ in 0..20 {
        assert_eq!(fixture.connect().await.unwrap().answer().await, Some('E'), "nothing else accepts");
    }
}

#[tokio::test]
async fn a_task_of_another_job_gets_the_address_but_not_the_clients() {
    for drains in [false, true] {
        let fixture = Fixture::new();
        let mut launch = fixture.launch("1");
        set(&mut launch, "write.hold_timeout", "10m");
        let first = fixture.start(launch).await;
        let sockets = listening(&first.record().proxy, fixture.address);
        let mut held = None;
        if drains {
            held = Some(fixture.connect().await.unwrap());
            until("it is accepted", || fixture.sessions() == 1).await;
            let first = first.clone();
            tokio::spawn(async move { first.stop(Duration::from_secs(60), None).await });
            until("it drains", || fixture.logged().contains("draining")).await;
        } else {
            crash(&first).await;
        }
        let waiting = fixture.connect().await.unwrap();
        let second = fixture.start(of_another_job(&fixture, "2")).await;
        assert_eq!(waiting.answer().await, None, "it wanted another database");
        assert!(listening(&second.record().proxy, fixture.address).is_disjoint(&sockets));
        if drains {
            assert!(listening(&first.record().supervisor, fixture.address).is_empty());
        } else {
            until("it keeps nothing, and ends", || is_gone(&first.record().supervisor)).await;
        }
        for _ in 0..20 {
            assert_eq!(fixture.connect().await.unwrap().answer().await, Some('E'));
        }
        drop(held);
    }
}

#[tokio::test]
async fn another_run_of_the_same_task_is_ended_by_a_start() {
    let fixture = Fixture::new();
    let first = fixture.start(fixture.launch("1")).await;
    let sockets = listening(&first.record().proxy, fixture.address);
    let mut again = fixture.launch("1");
    again.task.id = "0a1b1/proxy/again".to_owned();
    let second = fixture.start(again).await;
    assert!(!first.record().proxy.alive());
    assert_eq!(listening(&second.record().proxy, fixture.address), sockets, "its clients are served");
}

#[tokio::test]
async fn sockets_of_an_earlier_state_directory_are_handed_over() {
    let fixture = Fixture::new();
    let first = fixture.start(fixture.launch("1")).await;
    let sockets = listening(&first.record().proxy, fixture.address);
    crash(&first).await;
    let waiting = fixture.connect().await.unwrap();
    let moved = Launcher { state_dir: fixture.path("moved"), ..fixture.launcher.clone() };
    let earlier_state_dirs = vec![fixture.launcher.state_dir.clone()];
    let second = moved.start(LaunchSpec { earlier_state_dirs, ..fixture.launch("2") }).await.unwrap();
    assert_eq!(listening(&second.record().proxy, fixture.address), sockets);
    assert_eq!(waiting.answer().await, Some('E'));
    second.stop(Duration::ZERO, None).await.unwrap();
    second.record().supervisor.signal(Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_state_directory_that_others_can_write_is_refused() {
    let fixture = Fixture::new();
    std::fs::create_dir(&fixture.launcher.state_dir).unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(&fixture.launcher.state_dir, open).unwrap();
    let error = fixture.try_start(fixture.launch("1")).await.unwrap_err().to_string();
    assert!(error.contains("can be written by others: its mode is 0777"), "{error}");
    assert!(Client::connect(fixture.address).await.is_err());
}
