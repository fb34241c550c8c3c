//! A run of the proxy inside the test, held by its ties, and the clients of such a run.

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

/// The longest that any single step of a test may take before it counts as hung.
pub(crate) const BOUND: Duration = Duration::from_secs(20);
/// How long something is watched that must not happen.
pub(crate) const A_WHILE: Duration = Duration::from_millis(400);

/// A start-up packet of protocol 3.0 for the user `anna`.
pub(crate) const STARTUP: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0anna\0\0";

/// Listening sockets on one address of this machine, as a holder makes them.
pub(crate) fn sockets(count: usize) -> Vec<TcpListener> {
    let first = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = first.local_addr().unwrap();
    std::iter::once(first).chain((1..count).map(|_| net::listen(addr).unwrap())).collect()
}

/// What a holder hands over, keeping its own.
pub(crate) fn handed(sockets: &[TcpListener]) -> Vec<TcpListener> {
    sockets.iter().map(|socket| socket.try_clone().unwrap()).collect()
}

/// An address that nobody listens on.
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

/// A reload that is not expected.
pub(crate) fn no_reload() -> Reload {
    Reload::new(|| panic!("nobody asked for it"))
}

/// A running proxy and the holder's ends of its ties.
pub(crate) struct Run {
    pub(crate) commands: Option<mpsc::Sender<SupervisorCommand>>,
    pub(crate) events: mpsc::Receiver<EventRecord>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Run {
    /// Starts a proxy and waits until it is up.
    pub(crate) async fn start(config: Config, listeners: Vec<TcpListener>, reload: Reload) -> Self {
        let (commands, supervisor_command) = mpsc::channel(4);
        let (told, events) = mpsc::channel(4);
        let (ready, is_up) = oneshot::channel();
        let ties = SupervisorLink {
            listeners,
            commands: Some(supervisor_command),
            events: Some(told),
            ready: Some(ready),
        };
        let thread = thread::spawn(move || app::run(config, reload, ties));
        bounded(is_up).await.expect("the proxy did not start");
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

/// `work` within [`BOUND`].
pub(crate) async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, work).await.expect("a step of the test hung")
}

/// A client that has sent its first packet, and no more.
pub(crate) async fn arrive(addr: SocketAddr) -> TcpStream {
    let mut client = bounded(TcpStream::connect(addr)).await.unwrap();
    client.write_all(STARTUP).await.unwrap();
    client
}

/// Waits until a client has been logged in.
pub(crate) async fn served(client: &mut TcpStream) {
    expect(client, &[AUTH_OK, READY].concat()).await;
}

/// A client with an open session.
pub(crate) async fn session(addr: SocketAddr) -> TcpStream {
    let mut client = arrive(addr).await;
    served(&mut client).await;
    client
}

/// Whether the session goes on.
pub(crate) async fn answers(client: &mut TcpStream) {
    client.write_all(&message(b'Q', b"select 1\0")).await.unwrap();
    expect(client, READY).await;
}

async fn expect(client: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    bounded(client.read_exact(&mut received)).await.unwrap();
    assert_eq!(received, bytes);
}

/// Whether nothing reaches this client for a while, not even the end of its connection.
pub(crate) async fn hears_nothing(client: &mut TcpStream) -> bool {
    tokio::time::timeout(A_WHILE, client.read_u8()).await.is_err()
}

/// The last words that a severed client reads.
pub(crate) async fn last_words(client: &mut TcpStream) -> String {
    let mut words = Vec::new();
    bounded(client.read_to_end(&mut words)).await.unwrap();
    String::from_utf8_lossy(&words).into_owned()
}
