//! Starts: success, errors and their texts, repetition.

use std::fs;
use std::time::Duration;

use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{Launcher, Recovered, StartError, SupervisorClient};

use crate::fixture::{Fixture, is_gone, own_address, set, soon, until};

#[tokio::test]
async fn a_task_starts_and_can_be_recovered_by_its_record() {
    let fixture = Fixture::new();
    let launch = fixture.launch("1");
    let supervisor = fixture.start(launch.clone()).await;
    let record = supervisor.record();
    assert!(record.supervisor.alive() && record.proxy.alive());
    assert!(
        record.directory.starts_with(fs::canonicalize(&fixture.launcher.state_dir).unwrap()),
        "{record:?}"
    );
    assert_eq!(supervisor.launch_spec().await.unwrap(), launch);
    assert_eq!(fixture.connect().await.unwrap().answer().await, Some('E'), "no member answers");

    let json = serde_json::to_string(record).unwrap();
    assert!(!json.contains("a secret"), "{json}");
    let Ok(Recovered::Running(again)) =
        SupervisorClient::recover(&serde_json::from_str(&json).unwrap()).await
    else {
        panic!("it runs")
    };
    let waiting = tokio::spawn(async move { supervisor.exited().await });
    let exit = again.stop(Duration::from_secs(5), None).await.unwrap();
    assert_eq!((exit.code, exit.signal), (0, 0));
    assert_eq!(soon(waiting).await.unwrap(), exit, "the first client learns of it too");
}

#[tokio::test]
async fn errors_of_a_configuration_name_key_and_value() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    set(&mut launch, "write.hold_timeout", "soon");
    set(&mut launch, "write.hold_timeuot", "1s");
    launch.environment.insert("PGLP_PROBE_INTERVAL".to_owned(), "1h".to_owned());
    let Err(StartError::Configuration(faults)) = fixture.try_start(launch).await else {
        panic!("it is invalid")
    };
    for words in ["write.hold_timeout = \"soon\"", "write.hold_timeuot", "probe.interval = \"1h\""] {
        assert!(faults.iter().any(|fault| fault.contains(words)), "{words} is not in {faults:?}");
        assert!(
            fixture.logged().contains(words) || fixture.logged().contains("write.hold_timeuot"),
            "{}",
            fixture.logged()
        );
    }
    until("nothing is left of the start", || fixture.left().is_empty()).await;
}

#[tokio::test]
async fn transient_and_final_errors_are_distinguished() {
    let fixture = Fixture::new();
    let taken = std::net::TcpListener::bind(fixture.address).unwrap();
    let Err(StartError::Transient(text)) = fixture.try_start(fixture.launch("1")).await else {
        panic!("taken")
    };
    assert_eq!(text, format!("cannot listen on {}: another program listens there", fixture.address));
    drop(taken);

    let admin = own_address();
    let taken = std::net::TcpListener::bind(admin).unwrap();
    let mut launch = fixture.launch("2");
    set(&mut launch, "admin.listen", &admin.to_string());
    let Err(StartError::Transient(text)) = fixture.try_start(launch).await else { panic!("taken") };
    assert!(text.contains(&admin.to_string()), "{text}");
    drop(taken);

    let mut launch = fixture.launch("3");
    launch.account = None;
    let root = StartError::Fatal("the proxy faces the network and does not run as root".to_owned());
    assert_eq!(fixture.try_start(launch).await.unwrap_err(), root);

    let mut launch = fixture.launch("4");
    launch.directory = fixture.path("missing");
    let Err(StartError::Fatal(text)) = fixture.try_start(launch).await else { panic!("no directory") };
    assert!(
        text.starts_with("cannot change to the directory /") && text.contains("missing: No such file"),
        "{text}"
    );

    let mut launch = fixture.launch("5");
    launch.stderr = fixture.path("missing");
    let Err(StartError::Transient(text)) = fixture.try_start(launch).await else { panic!("no log") };
    assert!(text.starts_with("cannot open the log /") && text.contains("missing: No such file"), "{text}");

    let mut launch = fixture.launch("6");
    launch.environment.insert("LONG".to_owned(), "x".repeat(2 << 20));
    let Err(StartError::Fatal(text)) = fixture.try_start(launch).await else { panic!("too much") };
    assert!(text.starts_with("the task's environment and settings are too large"), "{text}");
}

#[tokio::test]
async fn an_executable_that_is_not_a_supervisor_is_an_error() {
    let fixture = Fixture::new();
    for program in ["/bin/false", "/nowhere"] {
        let launcher = Launcher { executable: program.into(), ..fixture.launcher.clone() };
        let Err(StartError::Transient(text)) = soon(launcher.start(fixture.launch("1"))).await else {
            panic!("{program} is not a supervisor")
        };
        assert!(text.starts_with("cannot start the supervisor: "), "{text}");
        assert!(fixture.left().is_empty());
    }
}

#[tokio::test]
async fn sighup_reloads_the_configuration_through_the_supervisor_and_directly() {
    let fixture = Fixture::new();
    let password = fixture.path("password");
    fs::write(&password, "one").unwrap();
    let mut launch = fixture.launch("1");
    set(&mut launch, "probe.password_file", password.to_str().unwrap());
    launch.environment.clear();
    let supervisor = fixture.start(launch).await;

    supervisor.signal(Signal::HUP).await.unwrap();
    until("it is reloaded", || fixture.logged().contains("configuration reloaded")).await;
    fs::remove_file(&password).unwrap();
    supervisor.record().proxy.signal(Signal::HUP).unwrap();
    until("it cannot be read", || fixture.logged().contains("the old one stays")).await;
    assert!(supervisor.record().proxy.alive());

    supervisor.signal(Signal::KILL).await.unwrap();
    soon(supervisor.exited()).await;
    let error = supervisor.signal(Signal::HUP).await.unwrap_err();
    assert_eq!(error.to_string(), "the task is not running");
}

#[tokio::test]
async fn a_second_start_of_the_same_task_returns_the_first() {
    let fixture = Fixture::new();
    let first = fixture.start(fixture.launch("1")).await;
    let again = fixture.start(fixture.launch("1")).await;
    assert_eq!(again.record(), first.record(), "nothing new was started");

    let waiting = tokio::spawn({
        let first = first.clone();
        async move { first.exited().await }
    });
    let mut other = fixture.launch("1");
    set(&mut other, "write.hold_timeout", "400ms");
    let replaced = fixture.start(other).await;
    assert_ne!(replaced.record(), first.record());
    let exit = soon(waiting).await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, 9), "a task with other settings is replaced");
    assert_eq!(fixture.connect().await.unwrap().answer().await, Some('E'));
    until("the first is gone with its directory", || {
        is_gone(&first.record().supervisor) && !first.record().directory.exists()
    })
    .await;
    assert!(replaced.record().proxy.alive());
}

#[tokio::test]
async fn a_task_that_has_exited_can_be_started_again() {
    let fixture = Fixture::new();
    let first = fixture.start(fixture.launch("1")).await;
    first.stop(Duration::ZERO, None).await.unwrap();
    let second = fixture.start(fixture.launch("1")).await;
    assert_ne!(second.record().proxy, first.record().proxy);
    second.stop(Duration::ZERO, None).await.unwrap();
    second.record().supervisor.signal(Signal::KILL).unwrap();
    second.record().supervisor.ended().await;
    let third = fixture.start(fixture.launch("1")).await;
    assert!(third.record().proxy.alive());
    until("the remains of the others are removed", || fixture.left() == [third.record().directory.clone()])
        .await;
}
