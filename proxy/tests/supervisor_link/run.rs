//! Runs the proxy inside the test with a supervisor link, and its clients.

use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pg_leader_proxy::app::{self, EventRecord, Reload, SupervisorCommand, SupervisorLink};
use pg_leader_proxy::config::{Config, Given, Origins, Raw};
use pg_leader_proxy::net;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::primary::{AUTH_OK, Primary, READY, message};

/// Longer than any step of a test takes.
pub(crate) const BOUND: Duration = Duration::from_secs(20);
/// How long to wait for something that must not happen.
pub(crate) const A_WHILE: Duration = Duration::from_millis(400);

/// A start-up packet of protocol 3.0 for the user `anna`.
pub(crate) const STARTUP: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0anna\0\0";

/// Listening sockets on one address, as a supervisor makes them.
pub(crate) fn sockets(count: usize) -> Vec<TcpListener> {
    let first = net::listen_shared("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = first.local_addr().unwrap();
    std::iter::once(first).chain((1..count).map(|_| net::listen_shared(addr).unwrap())).collect()
}

/// Duplicates of the sockets, for the process to inherit.
pub(crate) fn duplicates(sockets: &[TcpListener]) -> Vec<TcpListener> {
    sockets.iter().map(|socket| socket.try_clone().unwrap()).collect()
}

/// An address without a listening socket.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The configuration of a job that follows `primary`.
pub(crate) fn config(primary: &Primary, listen: &[SocketAddr], workers: usize) -> Config {
    let text = |path: &str, text: String| Given { path: path.to_owned(), raw: Raw::Text(text) };
    let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
    let given = vec![
        text("cluster.members", primary.addr.to_string()),
        text("probe.user", "monitor".to_owned()),
        text("probe.sslmode", "disable".to_owned()),
        text("write.listen", listen.join(",")),
        text("admin.listen", "off".to_owned()),
        text("session.workers", workers.to_string()),
    ];
    Config::load(&Origins { given, ..Origins::default() }).unwrap()
}

/// A reload that must not happen.
pub(crate) fn no_reload() -> Reload {
    Reload::new(|| panic!("there was no command to reload"))
}

/// A running proxy and the supervisor's ends of its link.
pub(crate) struct Run {
    pub(crate) commands: Option<mpsc::Sender<SupervisorCommand>>,
    pub(crate) events: mpsc::Receiver<EventRecord>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Run {
    /// Starts a proxy and waits until it is ready.
    pub(crate) async fn start(config: Config, listeners: Vec<TcpListener>, reload: Reload) -> Self {
        let (commands, supervisor_command) = mpsc::channel(4);
        let (error_text, events) = mpsc::channel(4);
        let (ready, ready_receiver) = oneshot::channel();
        let link = SupervisorLink {
            listeners,
            commands: Some(supervisor_command),
            events: Some(error_text),
            ready: Some(ready),
            ..SupervisorLink::default()
        };
        let thread = thread::spawn(move || app::run(config, reload, link));
        bounded(ready_receiver).await.expect("the proxy did not start");
        Self { commands: Some(commands), events, thread }
    }

    pub(crate) async fn command(&self, command: SupervisorCommand) {
        self.commands.as_ref().unwrap().send(command).await.unwrap();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) {
        let waiting = async {
            while !self.thread.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        bounded(waiting).await;
        self.thread.join().unwrap().unwrap();
    }
}

/// Runs `work` for at most [`BOUND`].
pub(crate) async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, work).await.expect("a step of the test hung")
}

/// A client that has only sent its first packet.
pub(crate) async fn connect_client(addr: SocketAddr) -> TcpStream {
    let mut client = bounded(TcpStream::connect(addr)).await.unwrap();
    client.write_all(STARTUP).await.unwrap();
    client
}

/// Waits until a client has logged in.
pub(crate) async fn served(client: &mut TcpStream) {
    expect(client, &[AUTH_OK, READY].concat()).await;
}

/// A client with an open session.
pub(crate) async fn session(addr: SocketAddr) -> TcpStream {
    let mut client = connect_client(addr).await;
    served(&mut client).await;
    client
}

/// Checks that the session still works.
pub(crate) async fn answers(client: &mut TcpStream) {
    client.write_all(&message(b'Q', b"select 1\0")).await.unwrap();
    expect(client, READY).await;
}

async fn expect(client: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    bounded(client.read_exact(&mut received)).await.unwrap();
    assert_eq!(received, bytes);
}

/// Whether the client receives nothing for a while, not even the end of its connection.
pub(crate) async fn receives_nothing(client: &mut TcpStream) -> bool {
    tokio::time::timeout(A_WHILE, client.read_u8()).await.is_err()
}

/// The last message that a terminated client receives.
pub(crate) async fn last_message(client: &mut TcpStream) -> String {
    let mut words = Vec::new();
    bounded(client.read_to_end(&mut words)).await.unwrap();
    String::from_utf8_lossy(&words).into_owned()
}
