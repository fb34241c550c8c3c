//! Who may not use the control socket, and requests that it does not take.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::running::{PROGRAM, SOON};
use crate::scene::{Client, Scene, Told, told};

/// A user and a group that own nothing, and that the proxy does not run as.
const OTHER: &str = "64001";

/// Runs a command as another user. The program is copied, because that user may not reach where it was built.
fn as_other_user(scene: &Scene, arguments: &[&str], groups: &str) -> Told {
    assert!(rustix::process::geteuid().is_root(), "this test needs root: it runs commands as another user");
    let program = scene.path("pg-leader-proxy");
    if !program.exists() {
        fs::copy(PROGRAM, &program).unwrap();
    }
    let user = [format!("--reuid={OTHER}"), format!("--regid={OTHER}"), groups.to_owned()];
    told(Command::new("setpriv").args(user).arg(program).args(arguments).arg("--socket").arg(scene.socket()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_is_refused_and_changes_nothing() {
    let scene = Scene::start("").await;
    let replica = scene.replica.addr.to_string();
    let mut open = Client::open(scene.write());
    let commands: [&[&str]; 8] = [
        &["pause"],
        &["resume"],
        &["drain", &replica],
        &["undrain", &replica],
        &["terminate", "--user", "anna"],
        &["reload"],
        &["log-level", "trace"],
        &["sessions"],
    ];
    let (code, denied) = as_other_user(&scene, &["pause"], "--clear-groups");
    assert_eq!(code, Some(2), "the mode of the socket keeps them out: {denied}");
    assert!(denied.contains("Permission denied"), "{denied}");
    // Somebody has changed the mode.
    fs::set_permissions(scene.socket(), Permissions::from_mode(0o666)).unwrap();
    for command in commands {
        let (code, refused) = as_other_user(&scene, command, "--clear-groups");
        assert_eq!(code, Some(1), "{command:?}: {refused}");
        assert!(refused.contains(&format!("refused: uid {OTHER}, gid {OTHER}, pid ")), "{refused}");
        assert!(refused.contains("may not command this proxy: only root and uid 0 may"), "{refused}");
    }
    open.asks();
    drop((Client::open(scene.write()), Client::open(scene.read())));
    let log = scene.log();
    assert!(log.contains("may not command this proxy") && log.contains("path=\"/pause\""), "{log}");
    assert!(!log.contains("configuration reloaded") && !log.contains("TRACE"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_the_group_may() {
    let scene = Scene::start(&format!("control.group = \"{OTHER}\"")).await;
    let mode = fs::metadata(scene.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let (code, done) = as_other_user(&scene, &["pause"], "--clear-groups");
    assert_eq!(code, Some(0), "{done}");
    assert!(Client::connect(scene.write()).waits());
    scene.done(&["resume"]);
    let log = scene.log();
    assert!(log.contains(&format!("command=\"pause\" uid={OTHER} gid={OTHER} pid=")), "{log}");
}

fn exchange(scene: &Scene, request: &str) -> String {
    let mut stream = UnixStream::connect(scene.socket()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // It may be answered before it is complete.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_makes_no_sense_is_refused() {
    let scene = Scene::start("").await;
    let post = |path: &str, body: &str| {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: p\r\nContent-Type: application/json\r\n");
        exchange(&scene, &format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"))
    };
    for (path, body) in [
        ("/drain", "{\"membr\": \"a\"}"),
        ("/terminate", "{\"member\": \"a\", \"user\": \"b\"}"),
        ("/terminate", "{}"),
        ("/sessions", "{\"colour\": \"red\"}"),
        ("/log", "nothing"),
    ] {
        let answer = post(path, body);
        assert!(
            answer.starts_with("HTTP/1.1 422 ") && answer.contains("{\"error\":\""),
            "{path} {body}: {answer}"
        );
    }
    let long = format!("{{\"member\": \"{}\"}}", "x".repeat(100_000));
    assert!(post("/drain", &long).contains("{\"error\":\""), "a body has a bound");
    assert!(exchange(&scene, "GET /pause HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 405 "));
    let paths = exchange(&scene, "GET /nowhere HTTP/1.0\r\n\r\n");
    assert!(paths.starts_with("HTTP/1.0 404 ") && paths.contains("POST /terminate"), "{paths}");
    assert!(exchange(&scene, "GET /sessions HTTP/1.0\r\n\r\n").contains("\"total\":0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_keep_no_operator_out() {
    let scene = Scene::start("").await;
    let silent: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(scene.socket()).unwrap()).collect();
    assert!(scene.done(&["pause"]).contains("new sessions wait"));
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_of_another_cluster_keeps_off_and_its_commands_are_refused() {
    let scene = Scene::start("session.so_reuseport = true").await;
    let (code, told_other) = scene.run_other("orders");
    assert_eq!(code, Some(1), "{told_other}");
    assert!(
        told_other
            .contains("the proxy of cluster static answers there, and this is a proxy of cluster orders"),
        "{told_other}"
    );
    let mut open = Client::open(scene.write());
    let other = scene.path("other.toml");
    let socket = scene.socket();
    for arguments in [
        &["pause"][..],
        &["terminate", "--user", "anna"],
        &["sessions"],
        &["pause", "--socket", socket.to_str().unwrap()],
    ] {
        let (code, refused) = told(Command::new(PROGRAM).args(arguments).arg("--config").arg(&other));
        assert_eq!(code, Some(1), "{arguments:?}: {refused}");
        let why = "the command is meant for cluster orders, but this is the proxy of cluster static";
        assert!(refused.contains(why), "{arguments:?}: {refused}");
    }
    open.asks();
    drop(Client::open(scene.write()));
    let (code, done) = told(Command::new(PROGRAM).args(["pause", "--socket"]).arg(&socket));
    assert_eq!(code, Some(0), "without a configuration the socket alone counts: {done}");
}
