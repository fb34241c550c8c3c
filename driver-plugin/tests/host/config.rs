//! Configurations that are refused, each with a text that names what is wrong, and never by a crash.

use nomad_plugin_proto::base::SetConfigRequest;
use nomad_plugin_proto::driver::{Device, Mount, NetworkIsolationSpec, TaskConfigSchemaRequest};
use nomad_plugin_proto::structs::RecoverableError;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::harness::{Job, Plugin, is_empty, lives};

/// Whether Nomad may try again, as it decodes it.
fn recoverable(status: &Status) -> Option<bool> {
    let details = nomad_plugin_proto::rpc::Status::decode(status.details()).ok()?;
    let detail = details.details.first()?;
    assert_eq!(
        detail.type_url,
        "type.googleapis.com/hashicorp.nomad.plugins.shared.structs.RecoverableError"
    );
    Some(RecoverableError::decode(detail.value.as_slice()).unwrap().recoverable)
}

async fn refused(config: &Value) -> String {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.configure(config);
    let refusal = job.start(&plugin).await.unwrap_err();
    assert_eq!((refusal.code(), recoverable(&refusal)), (Code::FailedPrecondition, Some(false)), "{refusal}");
    crate::harness::until("nothing is left", || is_empty(&job.state_dir())).await;
    refusal.message().to_owned()
}

fn with(block: &str, body: Value) -> Value {
    let mut config = json!({
        "cluster": { "members": ["127.0.0.1:1"] },
        "probe": { "user": "monitor" },
        "write": { "port": "pg" },
        "admin": { "listen": "off" },
    });
    config[block] = body;
    config
}

#[tokio::test]
async fn a_missing_scope_is_named() {
    let etcd = json!({ "endpoints": ["http://127.0.0.1:2379"] });
    let mut config = with("etcd", etcd);
    config["cluster"] = json!({ "scope": null });
    let refusal = refused(&config).await;
    assert!(refusal.contains("cluster.scope"), "{refusal}");
}

#[tokio::test]
async fn a_bad_duration_is_named_with_its_value_and_source() {
    let refusal = refused(&with("write", json!({ "port": "pg", "hold_timeout": "soon" }))).await;
    assert!(
        refusal.starts_with("write.hold_timeout = \"soon\" (the job's config): not a duration"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_label_without_a_port_is_named_with_those_that_there_are() {
    let refusal = refused(&with("write", json!({ "port": "postgres" }))).await;
    assert!(
        refusal.starts_with("write.port = \"postgres\" (the job's config): no port has this label"),
        "{refusal}"
    );
    assert!(refusal.contains("\"pg\""), "{refusal}");
}

#[tokio::test]
async fn port_and_listen_in_one_block_are_refused() {
    let refusal = refused(&with("write", json!({ "port": "pg", "listen": ["127.0.0.1:1"] }))).await;
    assert!(refusal.contains("write.port") && refusal.contains("write.listen"), "{refusal}");
}

#[tokio::test]
async fn a_password_that_cannot_be_read_is_named() {
    let refusal = refused(&with("probe", json!({ "user": "m", "password_file": "/no/such/file" }))).await;
    assert!(refusal.contains("probe.password_file") && refusal.contains("/no/such/file"), "{refusal}");
}

#[tokio::test]
async fn all_faults_are_told_at_once() {
    let refusal =
        refused(&with("write", json!({ "port": "pg", "hold_timeout": "soon", "max_held": 0 }))).await;
    assert!(refusal.contains("write.hold_timeout") && refusal.contains("write.max_held"), "{refusal}");
}

#[tokio::test]
async fn bytes_that_are_no_configuration_are_refused() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    for bytes in [&b"\xc1"[..], b"\x81\xa5write", b"\x05"] {
        job.task().msgpack_driver_config = bytes.to_vec();
        let refusal = job.start(&plugin).await.unwrap_err();
        assert!(refusal.message().contains("the configuration from Nomad cannot be read"), "{refusal}");
    }
}

/// Nomad 1.11 ignores `StartTaskResponse.result`: whether it may try again stands in the details of the error alone.
#[tokio::test]
async fn pitfall_11_what_may_pass_is_recoverable() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    // Without SO_REUSEPORT nobody shares it.
    let occupied = std::net::TcpListener::bind(job.address()).unwrap();
    let refusal = job.start(&plugin).await.unwrap_err();
    assert_eq!((refusal.code(), recoverable(&refusal)), (Code::FailedPrecondition, Some(true)), "{refusal}");
    assert!(refusal.message().contains(&job.address().to_string()), "{refusal}");
    drop(occupied);
    job.start(&plugin).await.unwrap();
    assert!(lives(job.relay()));
}

#[tokio::test]
async fn what_the_driver_does_not_have_is_refused_and_not_passed_over() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let plain = job.task().clone();
    job.task().mounts =
        vec![Mount { host_path: "/srv/data".into(), task_path: "/data".into(), ..Mount::default() }];
    let volume = job.start(&plugin).await.unwrap_err();
    *job.task() = plain.clone();
    job.task().devices = vec![Device { host_path: "/dev/fuse".into(), ..Device::default() }];
    let device = job.start(&plugin).await.unwrap_err();
    *job.task() = plain;
    job.task().network_isolation_spec =
        Some(NetworkIsolationSpec { mode: 1, ..NetworkIsolationSpec::default() });
    let bridge = job.start(&plugin).await.unwrap_err();
    for (refusal, named) in [(volume, "/srv/data"), (device, "/dev/fuse"), (bridge, "\"host\"")] {
        assert!(refusal.message().contains(named) && recoverable(&refusal) == Some(false), "{refusal}");
    }
}

#[tokio::test]
async fn the_agents_own_block_is_judged_by_its_keys() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let set = |config: Value| SetConfigRequest {
        msgpack_config: rmp_serde::to_vec(&config).unwrap(),
        ..SetConfigRequest::default()
    };
    for (config, named) in [
        (json!({ "keep_listening": "soon" }), "keep_listening = \"soon\""),
        (json!({ "state_dir": "here" }), "state_dir = \"here\""),
    ] {
        let refusal = plugin.base().set_config(set(config)).await.unwrap_err();
        assert!(refusal.code() == Code::InvalidArgument && refusal.message().contains(named), "{refusal}");
    }
    // Whether the directory can be had is a matter of health: an error here would stop the agent.
    plugin.base().set_config(set(json!({ "state_dir": "/proc/nowhere" }))).await.unwrap();
    plugin.base().set_config(SetConfigRequest::default()).await.unwrap();
}

#[tokio::test]
async fn there_is_a_schema_for_tasks() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let answer = plugin.driver().task_config_schema(TaskConfigSchemaRequest {}).await.unwrap().into_inner();
    assert!(answer.spec.unwrap().encoded_len() > 1000);
}
