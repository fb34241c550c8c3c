//! Processes of other users that reach a supervisor's socket: they are told nothing.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use nomad_driver_pg_leader_proxy::supervisor::protocol::Request;
use nomad_driver_pg_leader_proxy::user::{Account, DEFAULT};
use rustix::process::Uid;
use rustix::thread::set_thread_uid;

use crate::fixture::{Fixture, SOON};

/// What a thread that runs as `uid` is replied to a request for everything that the supervisor knows. The kernel tells
/// the supervisor the user of the thread that connects.
fn reply_to(uid: u32, socket: PathBuf) -> String {
    let asking = thread::spawn(move || {
        set_thread_uid(Uid::from_raw(uid)).expect("the tests of the driver run as root");
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // The supervisor may have closed the connection by now.
        let _ = stream.write_all(&[serde_json::to_vec(&Request::Describe).unwrap(), b"\n".to_vec()].concat());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut reply = Vec::new();
        match stream.read_to_end(&mut reply) {
            // It did not read the request.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            ended => drop(ended.expect("the connection is not closed")),
        }
        String::from_utf8(reply).unwrap()
    });
    asking.join().unwrap()
}

#[tokio::test]
async fn a_supervisor_closes_the_connection_of_another_user_without_a_reply() {
    let fixture = Fixture::new();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let directory = &supervisor.record().directory;
    let socket = directory.join("control.sock");
    for (path, mode) in [(&fixture.launcher.state_dir, 0o755), (directory, 0o755), (&socket, 0o666)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let nobody = Account::find(DEFAULT).unwrap().uid;
    let ask = async |uid| {
        let socket = socket.clone();
        tokio::task::spawn_blocking(move || reply_to(uid, socket)).await.unwrap()
    };
    assert_eq!(ask(nobody).await, "");
    let root = ask(0).await;
    assert!(root.contains("Description") && root.contains("a secret"), "{root}");
}
