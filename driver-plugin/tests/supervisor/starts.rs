//! Starts: what comes up, what is refused and in which words.

use std::fs;
use std::time::Duration;

use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{Found, StartError, Supervisor};

use crate::scene::{Scene, is_gone, own_address, set, soon, until};

#[tokio::test]
async fn a_task_comes_up_and_can_be_found_by_its_record() {
    let scene = Scene::new();
    let launch = scene.launch("1");
    let supervisor = scene.start(launch.clone()).await;
    let record = supervisor.record();
    assert!(record.supervisor.alive() && record.relay.alive());
    assert!(record.directory.starts_with(fs::canonicalize(&scene.base.state_dir).unwrap()), "{record:?}");
    assert_eq!(supervisor.launch().await.unwrap(), launch);
    assert_eq!(scene.connect().await.unwrap().answer().await, Some('E'), "no member answers");

    let json = serde_json::to_string(record).unwrap();
    assert!(!json.contains("a secret"), "{json}");
    let Ok(Found::Running(again)) = Supervisor::reconnect(&serde_json::from_str(&json).unwrap()).await else {
        panic!("it runs")
    };
    let waiting = tokio::spawn(async move { supervisor.exited().await });
    let exit = again.stop(Duration::from_secs(5), None).await.unwrap();
    assert_eq!((exit.code, exit.signal), (0, 0));
    assert_eq!(soon(waiting).await.unwrap(), exit, "the first one learns of it too");
}

#[tokio::test]
async fn a_configuration_is_refused_in_words_that_name_key_and_value() {
    let scene = Scene::new();
    let mut launch = scene.launch("1");
    set(&mut launch, "write.hold_timeout", "soon");
    set(&mut launch, "write.hold_timeuot", "1s");
    launch.environment.insert("PGLP_PROBE_INTERVAL".to_owned(), "1h".to_owned());
    let Err(StartError::Configuration(faults)) = scene.try_start(launch).await else {
        panic!("it is refused")
    };
    for words in ["write.hold_timeout = \"soon\"", "write.hold_timeuot", "probe.interval = \"1h\""] {
        assert!(faults.iter().any(|fault| fault.contains(words)), "{words} is not in {faults:?}");
        assert!(
            scene.logged().contains(words) || scene.logged().contains("write.hold_timeuot"),
            "{}",
            scene.logged()
        );
    }
    until("nothing is left of a start that was refused", || scene.left().is_empty()).await;
}

#[tokio::test]
async fn what_another_attempt_may_cure_is_told_from_what_it_cannot() {
    let scene = Scene::new();
    let taken = std::net::TcpListener::bind(scene.address).unwrap();
    let Err(StartError::Transient(text)) = scene.try_start(scene.launch("1")).await else { panic!("taken") };
    assert_eq!(text, format!("cannot listen on {}: another program listens there", scene.address));
    drop(taken);

    let admin = own_address();
    let taken = std::net::TcpListener::bind(admin).unwrap();
    let mut launch = scene.launch("2");
    set(&mut launch, "admin.listen", &admin.to_string());
    let Err(StartError::Transient(text)) = scene.try_start(launch).await else { panic!("taken") };
    assert!(text.contains(&admin.to_string()), "{text}");
    drop(taken);

    let mut launch = scene.launch("3");
    launch.user = Some("no-such-user".to_owned());
    let unknown = StartError::Fatal("there is no user `no-such-user` on this machine".to_owned());
    assert_eq!(scene.try_start(launch).await.unwrap_err(), unknown);

    let mut launch = scene.launch("4");
    launch.directory = scene.path("missing");
    let Err(StartError::Fatal(text)) = scene.try_start(launch).await else { panic!("no directory") };
    assert!(text.starts_with("cannot work in /") && text.contains("missing: No such file"), "{text}");

    let mut launch = scene.launch("5");
    launch.stderr = scene.path("missing");
    let Err(StartError::Transient(text)) = scene.try_start(launch).await else { panic!("no log") };
    assert!(text.starts_with("cannot open the log /") && text.contains("missing: No such file"), "{text}");

    let mut launch = scene.launch("6");
    launch.environment.insert("LONG".to_owned(), "x".repeat(2 << 20));
    let Err(StartError::Fatal(text)) = scene.try_start(launch).await else { panic!("too much") };
    assert!(text.starts_with("the task's environment and settings are too large"), "{text}");
}

#[tokio::test]
async fn a_program_that_is_no_supervisor_is_noticed_at_once() {
    let scene = Scene::new();
    for program in ["/bin/false", "/nowhere"] {
        let mut base = scene.base.clone();
        base.executable = program.into();
        let Err(StartError::Transient(text)) = soon(Supervisor::start(&base, scene.launch("1"))).await else {
            panic!("{program} is no supervisor")
        };
        assert!(text.starts_with("cannot start the supervisor: "), "{text}");
        assert!(scene.left().is_empty());
    }
}

#[tokio::test]
async fn the_configuration_is_read_again_on_a_signal_by_either_way() {
    let scene = Scene::new();
    let password = scene.path("password");
    fs::write(&password, "one").unwrap();
    let mut launch = scene.launch("1");
    set(&mut launch, "probe.password_file", password.to_str().unwrap());
    launch.environment.clear();
    let supervisor = scene.start(launch).await;

    supervisor.signal(Signal::HUP).await.unwrap();
    until("it is read again", || scene.logged().contains("configuration reloaded")).await;
    fs::remove_file(&password).unwrap();
    supervisor.record().relay.signal(Signal::HUP.raw()).unwrap();
    until("it cannot be read", || scene.logged().contains("the old one stays")).await;
    assert!(supervisor.record().relay.alive());

    supervisor.signal(Signal::KILL).await.unwrap();
    soon(supervisor.exited()).await;
    let error = supervisor.signal(Signal::HUP).await.unwrap_err();
    assert_eq!(error.to_string(), "no relay runs");
}

#[tokio::test]
async fn a_second_start_of_the_same_task_finds_the_first() {
    let scene = Scene::new();
    let first = scene.start(scene.launch("1")).await;
    let again = scene.start(scene.launch("1")).await;
    assert_eq!(again.record(), first.record(), "nothing was started");

    let waiting = tokio::spawn({
        let first = first.clone();
        async move { first.exited().await }
    });
    let mut other = scene.launch("1");
    set(&mut other, "write.hold_timeout", "400ms");
    let replaced = scene.start(other).await;
    assert_ne!(replaced.record(), first.record());
    let exit = soon(waiting).await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, 9), "the one with other settings was ended");
    assert_eq!(scene.connect().await.unwrap().answer().await, Some('E'));
    until("the first is gone with its directory", || {
        is_gone(&first.record().supervisor) && !first.record().directory.exists()
    })
    .await;
    assert!(replaced.record().relay.alive());
}

#[tokio::test]
async fn a_task_that_has_ended_is_started_anew_under_the_same_id() {
    let scene = Scene::new();
    let first = scene.start(scene.launch("1")).await;
    first.stop(Duration::ZERO, None).await.unwrap();
    let second = scene.start(scene.launch("1")).await;
    assert_ne!(second.record().relay, first.record().relay);
    second.stop(Duration::ZERO, None).await.unwrap();
    second.record().supervisor.signal(Signal::KILL.raw()).unwrap();
    second.record().supervisor.ended().await;
    let third = scene.start(scene.launch("1")).await;
    assert!(third.record().relay.alive());
    until("what the others left is cleaned up", || scene.left() == [third.record().directory.clone()]).await;
}
