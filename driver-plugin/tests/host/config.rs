//! Invalid configurations: each is an error that names the fault.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nomad_plugin_proto::base::SetConfigRequest;
use nomad_plugin_proto::driver::{Device, Mount, NetworkIsolationSpec, TaskConfigSchemaRequest};
use nomad_plugin_proto::structs::RecoverableError;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::harness::{Job, Plugin, connects, is_empty, lives, status_field};

/// Whether Nomad may try again, as it decodes the error.
fn recoverable(status: &Status) -> Option<bool> {
    let details = nomad_plugin_proto::rpc::Status::decode(status.details()).ok()?;
    let detail = details.details.first()?;
    assert_eq!(
        detail.type_url,
        "type.googleapis.com/hashicorp.nomad.plugins.shared.structs.RecoverableError"
    );
    Some(RecoverableError::decode(detail.value.as_slice()).unwrap().recoverable)
}

async fn start_error(config: &Value) -> String {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.configure(config);
    let error = job.start(&plugin).await.unwrap_err();
    assert_eq!((error.code(), recoverable(&error)), (Code::FailedPrecondition, Some(false)), "{error}");
    crate::harness::until("nothing is left", || is_empty(&job.state_dir())).await;
    error.message().to_owned()
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
    let error = start_error(&config).await;
    assert!(error.contains("cluster.scope"), "{error}");
}

#[tokio::test]
async fn an_invalid_duration_is_named_with_its_value_and_source() {
    let error = start_error(&with("write", json!({ "port": "pg", "hold_timeout": "soon" }))).await;
    assert!(error.starts_with("write.hold_timeout = \"soon\" (the job's config): not a duration"), "{error}");
}

#[tokio::test]
async fn an_unknown_port_label_is_named_with_the_known_ones() {
    let error = start_error(&with("write", json!({ "port": "postgres" }))).await;
    assert!(
        error.starts_with("write.port = \"postgres\" (the job's config): there is no port with this label"),
        "{error}"
    );
    assert!(error.contains("\"pg\""), "{error}");
}

#[tokio::test]
async fn port_and_listen_in_one_block_are_an_error() {
    let error = start_error(&with("write", json!({ "port": "pg", "listen": ["127.0.0.1:1"] }))).await;
    assert!(error.contains("write.port") && error.contains("write.listen"), "{error}");
}

#[tokio::test]
async fn an_unreadable_password_file_is_named() {
    let error = start_error(&with("probe", json!({ "user": "m", "password_file": "/no/such/file" }))).await;
    assert!(error.contains("probe.password_file") && error.contains("/no/such/file"), "{error}");
}

#[tokio::test]
async fn all_faults_are_reported_at_once() {
    let error =
        start_error(&with("write", json!({ "port": "pg", "hold_timeout": "soon", "max_held": 0 }))).await;
    assert!(error.contains("write.hold_timeout") && error.contains("write.max_held"), "{error}");
}

#[tokio::test]
async fn bytes_that_are_not_a_configuration_are_an_error() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    for bytes in [&b"\xc1"[..], b"\x81\xa5write", b"\x05"] {
        job.task().msgpack_driver_config = bytes.to_vec();
        let error = job.start(&plugin).await.unwrap_err();
        assert!(error.message().contains("the configuration from Nomad cannot be decoded"), "{error}");
    }
}

/// Nomad ignores `StartTaskResponse.result`: only the details of the error say whether it may try again.
#[tokio::test]
async fn pitfall_11_an_address_in_use_is_a_recoverable_error() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    // It is not shared, for lack of SO_REUSEPORT.
    let occupied = std::net::TcpListener::bind(job.address()).unwrap();
    let error = job.start(&plugin).await.unwrap_err();
    assert_eq!((error.code(), recoverable(&error)), (Code::FailedPrecondition, Some(true)), "{error}");
    assert!(error.message().contains(&job.address().to_string()), "{error}");
    drop(occupied);
    job.start(&plugin).await.unwrap();
    assert!(lives(job.proxy()));
}

#[tokio::test]
async fn what_the_driver_does_not_support_is_rejected() {
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
    for (error, named) in [(volume, "/srv/data"), (device, "/dev/fuse"), (bridge, "\"host\"")] {
        assert!(error.message().contains(named) && recoverable(&error) == Some(false), "{error}");
    }
}

#[tokio::test]
async fn values_of_the_plugin_block_are_checked() {
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
        let error = plugin.base().set_config(set(config)).await.unwrap_err();
        assert!(error.code() == Code::InvalidArgument && error.message().contains(named), "{error}");
    }
    // A directory that cannot be created makes the driver unhealthy: an error here would stop the agent.
    plugin.base().set_config(set(json!({ "state_dir": "/proc/nowhere" }))).await.unwrap();
    plugin.base().set_config(SetConfigRequest::default()).await.unwrap();
}

#[tokio::test]
async fn tasks_have_a_schema() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let answer = plugin.driver().task_config_schema(TaskConfigSchemaRequest {}).await.unwrap().into_inner();
    assert!(answer.spec.unwrap().encoded_len() > 1000);
}

#[tokio::test]
async fn a_task_never_runs_as_root() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let root = "does not run as root";
    for (user, text) in
        [("root", root), ("0", root), ("nomad-0", root), ("no-such-user", "no user `no-such-user`")]
    {
        job.task().user = user.into();
        let error = job.start(&plugin).await.unwrap_err();
        assert!(error.message().contains(text) && recoverable(&error) == Some(false), "{user}: {error}");
    }
    job.task().user.clear();
    job.start(&plugin).await.unwrap();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw().to_string();
    let uids = status_field(job.proxy(), "Uid");
    assert!(uids.split_whitespace().all(|uid| uid == nobody), "{uids}");
    assert_eq!(status_field(job.proxy(), "NoNewPrivs"), "1");
}

/// Nomad closes its data directory to everybody but root, and gives the paths of files in it as absolute ones.
#[tokio::test]
async fn a_file_of_the_task_is_found_below_directories_that_its_user_may_not_enter() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let secrets = job.alloc_dir().join("proxy/secrets");
    std::fs::create_dir(&secrets).unwrap();
    let file = secrets.join("password");
    std::fs::write(&file, "hunter2").unwrap();
    let permit = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    for directory in [&job.alloc_dir().join("proxy"), &secrets] {
        permit(directory, 0o755);
    }
    job.configure(&with("probe", json!({ "user": "m", "password_file": file })));
    permit(&file, 0o600);
    let error = job.start(&plugin).await.unwrap_err();
    let text = error.message();
    assert!(
        text.contains("the user `nobody` may not read") && text.contains("mode 0600, owner 0:0"),
        "{text}"
    );
    permit(&file, 0o644);
    job.start(&plugin).await.unwrap();
    assert!(connects(job.address()));
}

#[tokio::test]
async fn root_opens_no_log_through_a_link_that_the_task_made() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let foreign = job.state_dir().with_file_name("foreign");
    std::fs::write(&foreign, "").unwrap();
    let log = job.alloc_dir().join("stderr");
    std::fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink(&foreign, &log).unwrap();
    let error = job.start(&plugin).await.unwrap_err();
    assert!(error.message().contains("symbolic link"), "{error}");
    std::fs::remove_file(&log).unwrap();
    std::fs::hard_link(&foreign, &log).unwrap();
    let error = job.start(&plugin).await.unwrap_err();
    assert!(error.message().contains("hard links"), "{error}");
    assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "", "nothing was written to it");
}
