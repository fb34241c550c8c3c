//! The control socket and the commands that use it, on a running proxy before fake servers: each action, also refused, also
//! during a change of leader, a drain and a reload.
#![allow(clippy::unwrap_used)]

#[path = "../loopback/mod.rs"]
mod loopback;
#[path = "../supervisor_link/primary.rs"]
mod primary;
mod refused;
#[path = "../running/mod.rs"]
mod running;
mod scene;

use std::io::Read as _;

use rustix::process::Signal;
use scene::{Client, Scene};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_listed_with_their_clients_members_and_ports() {
    let scene = Scene::start("").await;
    let mut writer = Client::open(scene.write());
    writer.asks();
    let reader = Client::open(scene.read());
    let text = scene.done(&["sessions"]);
    let header: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header[..6], ["ID", "CLIENT", "ROUTE", "STATE", "MEMBER", "PORT"], "{text}");
    assert!(text.ends_with("\n2 sessions\n"), "{text}");
    let sessions = scene.sessions(&["--route", "write"]);
    assert_eq!(sessions.len(), 1);
    let session = &sessions[0];
    assert_eq!(session["client"], writer.0.local_addr().unwrap().to_string());
    assert_eq!((&session["state"], &session["user"]), (&"relaying".into(), &"anna".into()));
    assert_eq!(session["member"], scene.leader.addr.to_string());
    assert!(session["server_port"].as_u64().is_some_and(|port| port > 0));
    let replica = scene.replica.addr.to_string();
    let of_replica = scene.sessions(&["--member", &replica]);
    assert_eq!(of_replica[0]["client"], reader.0.local_addr().unwrap().to_string());
    assert!(
        scene.sessions(&["--user", "otto"]).is_empty() && scene.sessions(&["--state", "held"]).is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_lasts_through_a_reload_and_a_change_of_leader_until_resume() {
    let scene = Scene::start("").await;
    let mut open = Client::open(scene.write());
    assert!(scene.done(&["pause"]).contains("new sessions wait"));
    assert!(scene.done(&["pause"]).contains("paused already"));
    let (mut writer, mut reader) = (Client::connect(scene.write()), Client::connect(scene.read()));
    assert!(writer.waits() && reader.waits());
    open.asks();
    let (code, status) = scene.command(&["status"]);
    assert_eq!(code, Some(1), "{status}");
    assert_eq!(
        status.matches("because an operator has paused new sessions").count(),
        2,
        "both routes: {status}"
    );
    assert!(status.contains("ALARM: an operator has paused new sessions"), "{status}");
    assert_eq!(
        scene.metric("hold_reason{cluster=\"static\",route=\"write\",reason=\"paused_by_operator\"}"),
        Some(1.0)
    );
    assert_eq!(scene.metric("alarm{cluster=\"static\",alarm=\"paused_by_operator\"}"), Some(1.0));
    assert_eq!(scene.sessions(&["--state", "held"]).len(), 2);
    scene.wait("the alarm is logged", |scene| scene.log().contains("alarm=\"paused_by_operator\""));

    assert!(scene.done(&["reload"]).contains("was reloaded"));
    assert!(writer.waits(), "a reload does not end the pause");
    scene.leader.set_in_recovery(true);
    scene.wait("the leader is lost", |scene| {
        scene.metric("hold_reason{cluster=\"static\",route=\"write\",reason=\"no_primary\"}") == Some(1.0)
    });
    assert!(scene.done(&["pause"]).contains("paused already"), "the socket answers without a leader");
    scene.replica.set_in_recovery(false);
    scene.wait("the pause is the reason again", |scene| {
        scene.metric("hold_reason{cluster=\"static\",route=\"write\",reason=\"paused_by_operator\"}")
            == Some(1.0)
    });
    assert!(writer.waits(), "nor does a change of leader");

    assert!(scene.done(&["resume"]).contains("no longer wait"));
    writer.logs_in();
    reader.logs_in();
    assert!(scene.done(&["resume"]).contains("were not paused"));
    let log = scene.log();
    assert!(log.contains("control socket: new sessions wait") && log.contains("command=\"pause\""), "{log}");
    assert!(log.contains(&format!(" uid={} ", rustix::process::geteuid().as_raw())), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_member_gets_no_new_readers() {
    let scene = Scene::start("").await;
    let mut open = Client::open(scene.read());
    let replica = scene.replica.addr.to_string();
    assert!(scene.done(&["drain", &replica]).contains("gets no new readers"));
    assert!(scene.done(&["drain", &replica]).contains("was drained already"));
    let mut reader = Client::connect(scene.read());
    assert!(reader.waits());
    open.asks();
    drop(Client::open(scene.write()));
    let status = scene.done(&["status"]);
    assert!(
        status.contains("no: member_drained") && status.contains("ALARM: an operator has drained"),
        "{status}"
    );
    let routing: serde_json::Value = serde_json::from_str(&scene.get("/routing").unwrap()).unwrap();
    assert_eq!(routing["restrictions"], serde_json::json!({ "paused": false, "drained": [replica] }));
    assert!(scene.done(&["undrain", &replica]).contains("may get new readers again"));
    reader.logs_in();
    let (code, refused) = scene.command(&["drain", "nobody"]);
    assert_eq!(code, Some(1), "{refused}");
    assert!(refused.contains("refused: the cluster has no member nobody; it has 127.0.0.1:"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_terminated_by_number_member_and_user() {
    let scene = Scene::start("").await;
    let (first, mut second) = (Client::open(scene.write()), Client::open(scene.write()));
    let reader = Client::open(scene.read());
    let addr = first.0.local_addr().unwrap().to_string();
    let sessions = scene.sessions(&["--route", "write"]);
    let id = sessions.iter().find(|session| session["client"] == addr).unwrap()["id"].to_string();
    assert_eq!(scene.done(&["terminate", &id]), "1 session terminated\n");
    let told = first.last_words();
    assert!(told.contains("57P01") && told.contains("due to administrator command"), "{told}");
    second.asks();
    let (code, refused) = scene.command(&["terminate", &id]);
    assert_eq!(
        (code, refused.trim()),
        (Some(1), format!("pg-leader-proxy: refused: there is no session {id}").as_str())
    );
    assert_eq!(
        scene.done(&["terminate", "--member", &scene.replica.addr.to_string()]),
        "1 session terminated\n"
    );
    assert!(reader.last_words().contains("57P01"));
    assert_eq!(scene.done(&["terminate", "--user", "otto"]), "0 sessions terminated\n");
    assert_eq!(scene.done(&["terminate", "--user", "anna"]), "1 session terminated\n");
    assert!(second.last_words().contains("57P01"));
    assert_eq!(scene.command(&["terminate"]).0, Some(64), "it must be said which");
    assert_eq!(scene.command(&["terminate", "1", "--user", "anna"]).0, Some(64), "in one way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_says_what_is_wrong_and_a_log_filter_lasts_until_the_next() {
    let scene = Scene::start("").await;
    scene.write_config("session.max_sessions = \"many\"");
    let (code, told) = scene.command(&["reload", "--socket", scene.socket().to_str().unwrap()]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("refused:") && told.contains("session.max_sessions"), "{told}");
    scene.write_config("log.format = \"json\"");
    let (code, told) = scene.command(&["reload"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("refused: log.format can only change with a restart"), "{told}");
    scene.write_config("");
    assert!(!scene.log().contains("DEBUG"));
    let (code, told) = scene.command(&["log-level", "pg_leader_proxy=loud"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("the log filter is invalid"), "{told}");
    assert!(scene.done(&["log-level", "debug"]).contains("`debug` until the next reload"));
    drop(Client::open(scene.write()));
    scene.wait("debug lines", |scene| scene.log().contains("DEBUG"));
    scene.done(&["reload"]);
    scene.wait("the reload is logged", |scene| scene.log().contains("configuration reloaded"));
    let lines = scene.log().matches("DEBUG").count();
    drop(Client::open(scene.write()));
    scene.wait("the session has ended", |scene| scene.log().matches("session ended").count() == 2);
    assert_eq!(scene.log().matches("DEBUG").count(), lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_work_while_the_process_drains_except_a_reload() {
    let mut scene = Scene::start("session.drain_timeout = \"50s\"").await;
    let mut open = Client::open(scene.write());
    scene.signal(Signal::TERM);
    scene.wait("it drains", |scene| scene.metric("draining") == Some(1.0));
    scene.done(&["pause"]);
    let (code, refused) = scene.command(&["reload"]);
    assert_eq!((code, refused.trim()), (Some(1), "pg-leader-proxy: refused: the proxy is draining"));
    open.asks();
    assert_eq!(scene.sessions(&[]).len(), 1);
    assert_eq!(scene.done(&["terminate", "--user", "anna"]), "1 session terminated\n");
    assert!(scene.wait_end().success(), "that was the last one");
    assert!(!scene.socket().exists());
    assert_eq!(scene.command(&["pause"]).0, Some(2), "nobody answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_end_of_a_session_is_logged_with_its_code_unless_that_is_switched_off() {
    let scene = Scene::start("write.hold_timeout = \"300ms\"").await;
    let ends = |scene: &Scene, how: &str| {
        let log = scene.log();
        log.lines().filter(|line| line.contains("session ended") && line.contains(how)).count()
    };
    let mut asked = Client::open(scene.write());
    asked.asks();
    drop(asked);
    scene.wait("client_closed", |scene| ends(scene, "end=\"client_closed\"") == 1);
    let line = scene.log().lines().find(|line| line.contains("session ended")).unwrap().to_owned();
    let fields = [
        "session=1",
        "state=\"relaying\"",
        "route=\"write\"",
        "user=\"anna\"",
        "waited_ms=0",
        "first_byte_ms=",
    ];
    for field in
        fields.into_iter().chain(["duration_ms=", "bytes_to_server=14", "server_port=", "client=127."])
    {
        assert!(line.contains(field), "{field}: {line}");
    }
    let terminated = Client::open(scene.write());
    scene.done(&["terminate", "--user", "anna"]);
    assert!(terminated.last_words().contains("57P01"));
    scene.wait("operator", |scene| ends(scene, "end=\"terminated\" reason=\"operator\"") == 1);
    scene.done(&["pause"]);
    assert!(Client::connect(scene.write()).last_words().contains("an operator has paused new sessions"));
    scene.wait("rejected", |scene| ends(scene, "end=\"rejected\" reason=\"no_server\" state=\"held\"") == 1);
    drop(Client::connect(scene.read()));
    scene.wait("left", |scene| ends(scene, "end=\"left\"") == 1);
    scene.done(&["resume"]);
    assert_eq!(Client::cancel_after_tls_is_refused(scene.write()).last_words(), "", "it was forwarded");
    let lost = Client::open(scene.write());
    scene.leader.set_in_recovery(true);
    lost.last_words();
    scene.wait("no leader", |scene| ends(scene, "end=\"terminated\" reason=\"no_longer_leader\"") == 1);
    assert_eq!(ends(&scene, "end=\"left\""), 1, "a cancel request is no session");
    scene.leader.set_in_recovery(false);
    scene.wait("the leader is back", |scene| scene.get("/leader").is_some_and(|told| told.contains("epoch")));

    scene.write_config("log.sessions = false");
    scene.done(&["reload"]);
    let before = ends(&scene, "");
    for _ in 0..3 {
        drop(Client::open(scene.write()));
    }
    scene.wait("they have ended", |scene| scene.sessions(&[]).is_empty());
    assert_eq!(ends(&scene, ""), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_watched_and_lists_all_instances() {
    let scene = Scene::start("").await;
    let directory = scene.path("proxy.toml").parent().unwrap().to_str().unwrap().to_owned();
    let all = format!("--all={directory}");
    let (code, told) = scene::told(std::process::Command::new(running::PROGRAM).args(["status", &all]));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("== proxy\ncluster static"), "{told}");
    std::fs::write(scene.path("gone.toml"), "admin.listen = \"127.0.0.1:1\"\n").unwrap();
    let (code, told) = scene::told(std::process::Command::new(running::PROGRAM).args(["status", &all]));
    assert_eq!(code, Some(2), "one does not answer: {told}");
    assert!(told.contains("== gone\n") && told.contains("== proxy\ncluster static"), "{told}");

    let mut watching = std::process::Command::new(running::PROGRAM)
        .args(["status", "--watch=1", "--config"])
        .arg(scene.path("proxy.toml"))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = String::new();
    let mut out = watching.stdout.take().unwrap();
    while seen.matches("cluster static (").count() < 2 {
        let mut bytes = [0; 4096];
        let read = out.read(&mut bytes).unwrap();
        assert!(read > 0, "it ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert!(scene.done(&["failovers"]).ends_with("0 changes of leader since this proxy started\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_leader_is_explained_by_its_number() {
    let scene = Scene::start("").await;
    scene.leader.set_in_recovery(true);
    scene.wait("the leader is lost", |scene| {
        scene.metric("hold_reason{cluster=\"static\",route=\"write\",reason=\"no_primary\"}") == Some(1.0)
    });
    scene.replica.set_in_recovery(false);
    scene.wait("there is another", |scene| {
        scene.get("/leader").is_some_and(|told| told.contains("\"epoch\":2"))
    });
    let list = scene.done(&["failovers"]);
    assert!(
        list.contains("every member is in recovery")
            && list.ends_with("1 change of leader since this proxy started\n"),
        "{list}"
    );
    let one = scene.done(&["failovers", "1"]);
    assert!(
        one.contains("forwarding stopped, the sessions were terminated") && one.contains(" left recovery"),
        "{one}"
    );
    let (code, none) = scene.command(&["failovers", "7"]);
    assert_eq!(code, Some(1));
    assert!(none.contains("no change of leader 7 is remembered (there are: 1)"), "{none}");
}
