//! Streams that last as long as the connection.

use std::path::Path;
use std::time::Duration;

use nomad_plugin_proto::base::SetConfigRequest;
use nomad_plugin_proto::driver::fingerprint_response::HealthState;
use nomad_plugin_proto::driver::{FingerprintRequest, TaskEventsRequest};
use serde_json::json;
use tokio::time::timeout;

use crate::harness::{Job, Plugin};

/// Nomad opens a stream that ends again in a loop.
#[tokio::test]
async fn pitfall_05_fingerprint_and_events_stay_open() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let mut health = plugin.driver().fingerprint(FingerprintRequest {}).await.unwrap().into_inner();
    // Less than the interval of fingerprints.
    let at_once = timeout(Duration::from_secs(4), health.message());
    let first = at_once.await.expect("Nomad waits for the first fingerprint").unwrap().unwrap();
    assert_eq!(
        (first.health(), first.err.as_str()),
        (HealthState::Healthy, ""),
        "{}",
        first.health_description
    );
    assert!(first.attributes.contains_key("driver.pg-leader-proxy.version"));
    let mut events = plugin.driver().task_events(TaskEventsRequest {}).await.unwrap().into_inner();
    let silence = Duration::from_secs(2);
    let (health, events) =
        tokio::join!(timeout(silence, health.message()), timeout(silence, events.message()));
    assert!(health.is_err() && events.is_err(), "a stream ended, or sent a message without a reason");
}

#[tokio::test]
async fn pitfall_05_a_change_of_health_is_sent_and_the_stream_continues() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let mut health = plugin.driver().fingerprint(FingerprintRequest {}).await.unwrap().into_inner();
    for (state_dir, expected) in [
        (state.path(), HealthState::Healthy),
        (Path::new("/proc/nowhere"), HealthState::Unhealthy),
        (state.path(), HealthState::Healthy),
    ] {
        set_state_dir(&plugin, state_dir).await;
        let told = timeout(Duration::from_secs(10), health.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(told.health(), expected, "{}", told.health_description);
    }
}

async fn set_state_dir(plugin: &Plugin, state_dir: &Path) {
    let msgpack_config = rmp_serde::to_vec(&json!({ "state_dir": state_dir })).unwrap();
    plugin
        .base()
        .set_config(SetConfigRequest { msgpack_config, ..SetConfigRequest::default() })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_host_that_cannot_run_tasks_is_unhealthy_with_the_reason() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    set_state_dir(&plugin, Path::new("/proc/nowhere")).await;
    let mut health = plugin.driver().fingerprint(FingerprintRequest {}).await.unwrap().into_inner();
    let first = health.message().await.unwrap().unwrap();
    assert_eq!(first.health(), HealthState::Unhealthy);
    assert!(first.health_description.contains("/proc/nowhere"), "{}", first.health_description);
}

#[tokio::test]
async fn a_warning_is_a_task_event() {
    use nomad_plugin_proto::driver::{DnsConfig, DriverTaskEvent};

    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let mut events = plugin.driver().task_events(TaskEventsRequest {}).await.unwrap().into_inner();
    job.task().dns = Some(DnsConfig { servers: vec!["10.0.0.1".into()], ..DnsConfig::default() });
    job.start(&plugin).await.unwrap();
    let event = timeout(Duration::from_secs(5), events.message()).await.unwrap().unwrap().unwrap();
    let DriverTaskEvent { task_id, alloc_id, task_name, timestamp, message, .. } = event;
    assert_eq!((task_id, task_name), (job.id(), "proxy".to_owned()));
    assert_eq!(alloc_id, job.task().alloc_id);
    assert!(timestamp.unwrap().seconds > 1_700_000_000, "a missing time would be shown as of 1970");
    assert!(message.contains("dns"), "{message}");
}
