//! A real HAProxy in front of the proxy, which sends headers of both versions and checks its server.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use pg_leader_proxy::admission::{Access, RouteAccess};
use pg_leader_proxy::counters::RejectionKind;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::session::SessionState;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::WIDE;
use crate::fake::{AUTH_OK, BOUND, FakeServer, Rig, STARTUP, expect, networks, with_access};
use crate::snapshots::sessions_in;

/// HAProxy with one frontend for each version. It is killed when this is dropped.
struct Haproxy {
    child: Child,
    _directory: TempDir,
    frontends: [SocketAddr; 2],
}

impl Haproxy {
    fn start(server: SocketAddr) -> Self {
        let program = lab::installed_program("haproxy", "apt-get install haproxy").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("haproxy.cfg");
        // Both are free until HAProxy takes them: nothing else of this test listens meanwhile.
        let free = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let frontends = free.each_ref().map(|socket| socket.local_addr().unwrap());
        drop(free);
        let mut text = String::from(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n",
        );
        for (addr, sends) in frontends.iter().zip(["send-proxy", "send-proxy-v2"]) {
            text.push_str(&format!(
                "listen {sends}\n  bind {addr}\n  server proxy {server} {sends} check inter 50ms\n"
            ));
        }
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command
            .args(["-db", "-f"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), _directory: directory, frontends }
    }

    async fn client(&self, frontend: usize) -> TcpStream {
        let connecting = async {
            loop {
                match TcpStream::connect(self.frontends[frontend]).await {
                    Ok(client) => return client,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            }
        };
        tokio::time::timeout(BOUND, connecting).await.expect("HAProxy does not listen")
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn clients_of_haproxy_are_known_by_their_own_addresses() {
    let server = FakeServer::start().await;
    let route = RouteAccess { balancers: networks(&["127.0.0.1/32"]), ..RouteAccess::default() };
    let mut rig = Rig::start(with_access(Access { write: route, ..Access::default() }), 1, WIDE).await;
    rig.make_leader(&server);
    let haproxy = Haproxy::start(rig.client_addr);
    for frontend in 0..2 {
        let mut client = haproxy.client(frontend).await;
        client.write_all(STARTUP).await.unwrap();
        let served = server.accept_session().await;
        expect(&mut client, AUTH_OK).await;
        let session = sessions_in(&rig, SessionState::Relaying, 1).await.remove(0);
        assert_eq!(session.client, client.local_addr().unwrap());
        drop((client, served));
        sessions_in(&rig, SessionState::Relaying, 0).await;
    }
    rig.until("HAProxy has checked its server", |counters| {
        counters.route(RouteKind::Write).accepted.value() > 10
    })
    .await;
    let rejected = rig.counters.route(RouteKind::Write).rejections(RejectionKind::BadProxyHeader).value();
    assert_eq!(rejected, 0, "a check is no bad header");
}
