//! The handshake: who is served, and the line on standard output.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use nomad_plugin_proto::base::{ConfigSchemaRequest, PluginInfoRequest, PluginType};
use nomad_plugin_proto::plugin::grpc_stdio_client::GrpcStdioClient;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{COOKIE, Plugin, program};

#[test]
fn without_the_cookie_it_prints_one_line_and_exits() {
    for cookie in [None, Some("another")] {
        let mut command = program();
        if let Some(cookie) = cookie {
            command.env(COOKIE.0, cookie);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        assert!(text.lines().count() == 1 && text.contains("Nomad") && text.contains("--help"), "{text}");
    }
}

#[test]
fn an_encrypted_connection_is_rejected() {
    let output = program().env(COOKIE.0, COOKIE.1).env("PLUGIN_CLIENT_CERT", "x").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("[ERROR] ") && text.contains("PLUGIN_CLIENT_CERT"), "{text}");
}

#[test]
fn help_and_version_are_printed() {
    let run = |argument: &str| {
        let output = program().arg(argument).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    assert_eq!(
        run("--version"),
        (Some(0), format!("nomad-driver-pg-leader-proxy {}\n", env!("CARGO_PKG_VERSION")))
    );
    let (code, help) = run("--help");
    assert!(code == Some(0) && help.contains("plugin_dir"), "{help}");
    let (code, error) = run("--verbose");
    assert!(code == Some(2) && error.contains("--verbose"), "{error}");
}

#[test]
fn without_a_reader_of_the_handshake_it_exits() {
    let mut child =
        program().env(COOKIE.0, COOKIE.1).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[tokio::test]
async fn the_socket_is_private_and_where_the_host_wants_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program();
    command.env(COOKIE.0, COOKIE.1).env("PLUGIN_UNIX_SOCKET_DIR", directory.path());
    let plugin = Plugin::launch(&mut command, directory.path()).await;
    assert!(
        plugin.line().starts_with("1|2|unix|/") && plugin.line().ends_with("|grpc\n"),
        "{}",
        plugin.line()
    );
    let private = plugin.socket().parent().unwrap().to_owned();
    assert_eq!(private.parent(), Some(directory.path()));
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn plugin_info_and_schema_are_available() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let info = plugin.base().plugin_info(PluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.r#type(), info.name.as_str()), (PluginType::Driver, "pg-leader-proxy"));
    assert_eq!(info.plugin_api_versions, ["v0.1.0"]);
    assert!(plugin.base().config_schema(ConfigSchemaRequest {}).await.unwrap().into_inner().spec.is_some());
}

#[tokio::test]
async fn its_health_is_known_under_the_name_that_go_plugin_uses() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let request = HealthCheckRequest { service: "plugin".into() };
    let answer = HealthClient::new(plugin.channel()).check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}

#[tokio::test]
async fn the_stdio_stream_stays_open_and_silent() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let mut stdio = GrpcStdioClient::new(plugin.channel()).stream_stdio(()).await.unwrap().into_inner();
    let silence = tokio::time::timeout(Duration::from_secs(2), stdio.message()).await;
    assert!(silence.is_err(), "the stream ended");
}
