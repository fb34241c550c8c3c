//! The command that closes sockets which outlive their task.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fixture::{Client, Fixture, is_gone, soon, until};

/// Runs the command on the fixture's state directory, and returns its exit code and what it says.
fn release(fixture: &Fixture, wanted: &str) -> (i32, String) {
    let output = Command::new(&fixture.launcher.executable)
        .args(["release", "--state-dir"])
        .arg(&fixture.launcher.state_dir)
        .arg(wanted)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code().unwrap(), text)
}

#[tokio::test]
async fn a_kept_port_is_released_by_address_or_by_job() {
    for by_job in [false, true] {
        let fixture = Fixture::new();
        let supervisor = fixture.start(fixture.launch("1")).await;
        soon(supervisor.stop(Duration::ZERO, None)).await.unwrap();
        let waiting = fixture.connect().await.unwrap();
        let address = fixture.address.to_string();
        let (code, text) = release(&fixture, if by_job { "proxy" } else { &address });
        let told = format!("released {address} of the job `proxy` (namespace `default`, allocation 0a1b1)\n");
        assert_eq!((code, text), (0, told));
        assert_eq!(waiting.answer().await, None, "it is reset");
        assert_eq!(
            Client::connect(fixture.address).await.err().unwrap().kind(),
            std::io::ErrorKind::ConnectionRefused
        );
        until("its supervisor ends", || is_gone(&supervisor.record().supervisor)).await;
    }
}

#[tokio::test]
async fn a_task_that_accepts_clients_is_named_and_left_alone() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let everywhere = format!("0.0.0.0:{}", fixture.address.port());
    for wanted in [&*everywhere, "proxy"] {
        let (code, text) = release(&fixture, wanted);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(&format!("a task accepts clients on {}", fixture.address)), "{text}");
        assert!(text.contains("job `proxy`") && text.contains("stop its job first"), "{text}");
    }
    assert!(supervisor.record().proxy.alive());
    assert_eq!(fixture.connect().await.unwrap().answer().await, Some('E'));
}

#[tokio::test]
async fn what_nobody_keeps_is_an_error_that_says_what_is_kept() {
    let fixture = Fixture::new();
    let (code, text) = release(&fixture, "127.0.0.1:1");
    let state_dir = fixture.launcher.state_dir.display();
    assert!(code == 1 && text.contains(&format!("cannot read the state directory {state_dir}")), "{text}");
    let supervisor = fixture.start(fixture.launch("1")).await;
    for (wanted, named) in [("127.0.0.1:1", "127.0.0.1:1"), ("another", "the job `another`")] {
        let (code, text) = release(&fixture, wanted);
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains(&format!("nobody keeps sockets of {named}; no supervisor keeps any")),
            "{text}"
        );
    }
    soon(supervisor.stop(Duration::ZERO, None)).await.unwrap();
    let (code, text) = release(&fixture, "another");
    assert!(code == 1 && text.contains(&format!("kept are those of {}", fixture.address)), "{text}");
    assert!(fixture.connect().await.is_ok(), "they are still kept");
}

#[test]
fn wrong_usage_is_told() {
    let fixture = Fixture::new();
    for arguments in
        [&["release"][..], &["release", "a", "b"], &["release", "--state-dir", "/x"], &["release", "--help"]]
    {
        let output =
            Command::new(&fixture.launcher.executable).args(arguments).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains("release [--state-dir DIRECTORY] ADDRESS|JOB"), "{text}");
    }
}
