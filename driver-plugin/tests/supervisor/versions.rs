//! Plugin and supervisor of different versions: after an upgrade or a roll-back of the driver both kinds of pairs exist.
//!
//! The messages of version 1 are recorded here as bytes, and its types as they were. A later version may add fields and
//! variants, but must be understood by these types, and must understand these bytes.

use std::net::SocketAddr;
use std::time::Duration;

use nomad_driver_pg_leader_proxy::channel::Channel;
use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::protocol::{self, Reply, Request};
use nomad_driver_pg_leader_proxy::supervisor::{JobName, StartError};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::fixture::{Fixture, SOON, soon, until};

/// What a plugin or supervisor of version 1 decodes.
mod v1 {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    pub(super) struct ProcessId {
        pub(super) pid: u32,
        pub(super) start_time: u64,
        pub(super) boot_id: String,
    }

    #[derive(Debug, Deserialize)]
    pub(super) struct TaskRecord {
        pub(super) supervisor: ProcessId,
        pub(super) proxy: ProcessId,
        pub(super) directory: PathBuf,
        pub(super) cgroups: serde_json::Value,
        pub(super) started_at: SystemTime,
    }

    #[derive(Debug, Deserialize)]
    pub(super) struct TaskExit {
        pub(super) code: i32,
        pub(super) signal: i32,
        pub(super) oom_killed: bool,
        pub(super) at: SystemTime,
        pub(super) error: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    pub(super) struct TaskName {
        pub(super) id: String,
        pub(super) alloc_id: String,
        pub(super) name: String,
    }

    #[derive(Debug, Deserialize)]
    pub(super) struct LaunchSpec {
        pub(super) task: TaskName,
        pub(super) settings: Vec<serde_json::Value>,
        pub(super) environment: BTreeMap<String, String>,
        pub(super) directory: PathBuf,
        pub(super) stdout: PathBuf,
        pub(super) stderr: PathBuf,
        pub(super) user: Option<String>,
        pub(super) cgroups: serde_json::Value,
        pub(super) oom_score_adj: i32,
        pub(super) keep_listening: Duration,
    }

    #[derive(Debug, Deserialize)]
    pub(super) struct Description {
        pub(super) launch: Option<LaunchSpec>,
        pub(super) record: Option<TaskRecord>,
        pub(super) exit: Option<TaskExit>,
    }

    #[derive(Debug, Deserialize)]
    pub(super) struct EventRecord {
        pub(super) kind: String,
        pub(super) message: String,
        pub(super) annotations: BTreeMap<String, String>,
    }

    #[derive(Debug, Deserialize)]
    pub(super) struct QueuedEvent {
        pub(super) number: u64,
        pub(super) at: SystemTime,
        pub(super) event: EventRecord,
    }

    #[derive(Debug, Deserialize)]
    pub(super) enum Reply {
        Description(Box<Description>),
        Exited(TaskExit),
        Event(QueuedEvent),
        Sockets(Vec<std::net::SocketAddr>),
        Done,
        Failed(String),
    }
}

/// A connection of version 1 to a supervisor of this version.
struct OldPlugin(BufReader<UnixStream>);

impl OldPlugin {
    async fn send(fixture: &Fixture, request: &str) -> Self {
        let directory = fixture.left().into_iter().next().unwrap();
        let mut stream = UnixStream::connect(directory.join("control.sock")).await.unwrap();
        stream.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    async fn reply(&mut self) -> v1::Reply {
        let mut line = String::new();
        soon(self.0.read_line(&mut line)).await.unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

async fn ask(fixture: &Fixture, request: &str) -> v1::Reply {
    OldPlugin::send(fixture, request).await.reply().await
}

#[tokio::test]
async fn a_plugin_of_version_1_controls_a_supervisor_of_this_version() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    launch.user = Some("nobody".to_owned());
    let supervisor = fixture.start(launch).await;
    let record = supervisor.record();

    let v1::Reply::Description(found) = ask(&fixture, "\"Describe\"").await else { panic!("a description") };
    let v1::Description { launch: Some(launch), record: Some(told), exit: None } = *found else {
        panic!("it runs")
    };
    let pids = (told.supervisor.pid, told.proxy.pid, told.proxy.start_time, told.proxy.boot_id);
    let expected =
        (record.supervisor.pid, record.proxy.pid, record.proxy.start_time, record.proxy.boot_id.clone());
    assert_eq!(pids, expected);
    assert_eq!((told.directory, told.started_at), (record.directory.clone(), record.started_at));
    assert_eq!((launch.user.as_deref(), launch.keep_listening), (Some("nobody"), Duration::from_secs(20)));
    assert_eq!(launch.environment["PGLP_PROBE_PASSWORD"], "a secret");

    let sockets = format!("{{\"TakeSockets\":[\"{}\"]}}", fixture.address);
    assert!(matches!(ask(&fixture, &sockets).await, v1::Reply::Sockets(none) if none.is_empty()));
    assert!(matches!(ask(&fixture, "{\"Signal\":\"SIGHUP\"}").await, v1::Reply::Done));
    until("it is reloaded", || fixture.logged().contains("configuration reloaded")).await;

    // After a restart by the supervisor the record is still the one that Nomad has.
    record.proxy.signal(Signal::KILL).unwrap();
    let mut events = OldPlugin::send(&fixture, "\"Events\"").await;
    let restarted = async {
        loop {
            if let v1::Reply::Event(queued) = events.reply().await
                && queued.event.kind == "restart"
            {
                return queued;
            }
        }
    };
    let v1::QueuedEvent { number, at, event } = soon(restarted).await;
    assert!(number > 0 && at > record.started_at && event.annotations.is_empty(), "{event:?}");
    assert!(event.message.contains("started again"), "{event:?}");
    let v1::Reply::Description(found) = ask(&fixture, "\"Describe\"").await else { panic!("a description") };
    assert_eq!(found.record.unwrap().proxy.pid, record.proxy.pid);

    let stop = r#"{"Stop":{"kill_timeout":{"secs":5,"nanos":0},"signal":null}}"#;
    let v1::Reply::Exited(exit) = ask(&fixture, stop).await else { panic!("an exit") };
    assert_eq!((exit.code, exit.signal, exit.oom_killed, exit.error), (0, 0, false, None));
    assert!(exit.at > record.started_at);
    assert!(matches!(ask(&fixture, "\"Wait\"").await, v1::Reply::Exited(_)));
    let v1::Reply::Failed(text) = ask(&fixture, "\"Unknown\"").await else { panic!("an error") };
    assert!(text.contains(&format!("version {} of the messages", protocol::VERSION)), "{text}");
    assert!(matches!(ask(&fixture, "\"Destroy\"").await, v1::Reply::Done));
}

/// The reply of a supervisor of version 1 to `Describe`.
fn description_of_version_1(fixture: &Fixture) -> Value {
    let process = json!({ "pid": 1, "start_time": 2, "boot_id": "x" });
    json!({ "Description": {
        "launch": {
            "task": { "id": "a/proxy/1", "alloc_id": "a", "name": "proxy" },
            "settings": [{ "path": "probe.user", "raw": { "text": "monitor" } }],
            "environment": { "NOMAD_NAMESPACE": "default", "NOMAD_JOB_ID": "proxy" },
            "directory": "/alloc/a/proxy",
            "stdout": "/dev/null",
            "stderr": "/dev/null",
            "user": "postgres",
            "cgroups": "none",
            "oom_score_adj": 0,
            "keep_listening": { "secs": 10, "nanos": 0 },
        },
        "record": {
            "supervisor": process, "proxy": process, "directory": fixture.path("x"), "cgroups": "none",
            "started_at": { "secs_since_epoch": 1, "nanos_since_epoch": 0 },
        },
        "exit": null,
    }})
}

#[tokio::test]
async fn this_version_understands_a_supervisor_of_version_1() {
    let fixture = Fixture::new();
    let reply = description_of_version_1(&fixture).to_string();
    let Reply::Description(found) = serde_json::from_str(&reply).unwrap() else { panic!("a description") };
    let launch = found.launch.unwrap();
    assert_eq!(launch.job(), JobName { namespace: "default".to_owned(), id: "proxy".to_owned() });
    assert_eq!((launch.user.as_deref(), launch.account), (Some("postgres"), None));
    assert_eq!((found.version, found.proxy, found.accepting), (1, None, false));
    for (bytes, expected) in [
        (
            r#"{"Exited":{"code":137,"signal":9,"oom_killed":true,"at":{"secs_since_epoch":1,"nanos_since_epoch":0},"error":null}}"#,
            "Exited",
        ),
        (
            r#"{"Event":{"number":1,"at":{"secs_since_epoch":1,"nanos_since_epoch":0},"event":{"kind":"leader","message":"m","annotations":{}}}}"#,
            "Event",
        ),
        (r#"{"Sockets":["127.0.0.1:5433"]}"#, "Sockets"),
        (r#""Done""#, "Done"),
        (r#"{"Failed":"x"}"#, "Failed"),
    ] {
        let reply: Reply = serde_json::from_str(bytes).unwrap();
        assert!(format!("{reply:?}").starts_with(expected), "{reply:?}");
    }
    // The requests that such a supervisor knows are sent as it knows them.
    let address: SocketAddr = "127.0.0.1:5433".parse().unwrap();
    let stop = Request::Stop { kill_timeout: Duration::from_secs(5), signal: Some(Signal::KILL) };
    for (request, bytes) in [
        (Request::Describe, json!("Describe")),
        (Request::Wait, json!("Wait")),
        (stop, json!({ "Stop": { "kill_timeout": { "secs": 5, "nanos": 0 }, "signal": "SIGKILL" } })),
        (Request::Signal(Signal::HUP), json!({ "Signal": "SIGHUP" })),
        (Request::Events, json!("Events")),
        (Request::Delivered(7), json!({ "Delivered": 7 })),
        (Request::TakeSockets(vec![address]), json!({ "TakeSockets": ["127.0.0.1:5433"] })),
        (Request::Ack, json!("Ack")),
        (Request::Destroy, json!("Destroy")),
    ] {
        assert_eq!(serde_json::to_value(&request).unwrap(), bytes);
    }
}

/// A supervisor of version 1 does not tell where it listens, and knows no `Release`.
#[tokio::test]
async fn a_task_beside_a_supervisor_of_version_1_starts_or_is_refused_by_the_kernel() {
    let fixture = Fixture::new();
    let directory = fixture.launcher.state_dir.join("old.0");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::set_permissions(
        &fixture.launcher.state_dir,
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let control = tokio::net::UnixListener::bind(directory.join("control.sock")).unwrap();
    let description = description_of_version_1(&fixture);
    let old = tokio::spawn(async move {
        loop {
            let mut channel = Channel::new(control.accept().await.unwrap().0);
            let reply = match channel.expect::<Value>(SOON).await {
                Ok(request) if request == json!("Describe") => description.clone(),
                // It accepts clients.
                Ok(request) if request.get("TakeSockets").is_some() => json!({ "Sockets": [] }),
                // Version 1 closes the connection without a reply.
                _ => continue,
            };
            let _ = channel.send(&reply).await;
        }
    });
    let shared = pg_leader_proxy::net::listen(fixture.address).unwrap();
    let Err(StartError::Transient(text)) = fixture.try_start(fixture.launch("1")).await else {
        panic!("refused")
    };
    assert!(text.contains("another program listens there"), "{text}");
    drop(shared);
    fixture.start(fixture.launch("2")).await;
    assert_eq!(fixture.connect().await.unwrap().answer().await, Some('E'));
    old.abort();
}
