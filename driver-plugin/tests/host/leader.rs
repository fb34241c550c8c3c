//! A real cluster behind the task: a change of leader is a task event.

use std::collections::HashMap;
use std::time::Duration;

use lab::{Cluster, ClusterOptions, MONITOR};
use nomad_plugin_proto::driver::{DriverTaskEvent, TaskEventsRequest};
use serde_json::json;
use tonic::Streaming;

use crate::harness::{Job, Plugin, recover};

/// How long a switchover and its event may take.
const CHANGE: Duration = Duration::from_secs(60);

async fn event_that_names(events: &mut Streaming<DriverTaskEvent>, member: &str) -> DriverTaskEvent {
    let named = async {
        loop {
            let event = events.message().await.unwrap().expect("the stream never ends");
            if event.annotations.get("member").is_some_and(|found| found == member) {
                return event;
            }
        }
    };
    tokio::time::timeout(CHANGE, named).await.expect("an event names the leader")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_leader_is_a_task_event_even_if_it_happens_without_a_plugin() {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let mut job = Job::new();
    job.configure(&json!({
        "cluster": { "scope": cluster.scope() },
        "etcd": { "endpoints": cluster.etcd_endpoints("driver").unwrap() },
        "probe": { "user": MONITOR.user, "database": "postgres" },
        "write": { "port": "pg" },
        "admin": { "listen": "off" },
    }));
    job.task().env = HashMap::from([("PGLP_PROBE_PASSWORD".to_owned(), MONITOR.password.to_owned())]);
    let plugin = Plugin::start(&job.state_dir()).await;
    let mut events = plugin.driver().task_events(TaskEventsRequest {}).await.unwrap().into_inner();
    let handle = job.start(&plugin).await.unwrap();
    let first = event_that_names(&mut events, "a").await;
    assert_eq!((first.task_id, first.task_name.as_str()), (job.id(), "proxy"));
    assert!(first.timestamp.is_some() && first.message.contains('a'), "{}", first.message);

    let app = cluster.app_config(job.address()).connect(tokio_postgres::NoTls).await;
    let (client, connection) = app.unwrap();
    let session = tokio::spawn(connection);
    client.simple_query("select 1").await.unwrap();

    // The switchover happens without a plugin, and the next one delivers the event.
    drop(events);
    plugin.crash().await;
    client.simple_query("select 1").await.unwrap();
    cluster.switchover("b").await.unwrap();
    let plugin = Plugin::start(&job.state_dir()).await;
    let mut events = plugin.driver().task_events(TaskEventsRequest {}).await.unwrap().into_inner();
    recover(&plugin, handle).await;
    let change = event_that_names(&mut events, "b").await;
    assert!(change.message.contains("leader is now b"), "{}", change.message);
    assert!(change.annotations.contains_key("timeline"), "{:?}", change.annotations);
    assert!(
        client.is_closed() || client.simple_query("select 1").await.is_err(),
        "the session was terminated"
    );
    let _ = session.await.unwrap();
}
