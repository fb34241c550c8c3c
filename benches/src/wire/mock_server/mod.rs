//! A mock server: enough of PostgreSQL for logins, probes and a query, where PostgreSQL itself would need ten thousand
//! processes. It is the leader or in recovery as it is told, and records when it first answered so.

mod answers;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};

use super::protocol::{first_message, message};
use super::sandbox::Sandbox;

/// Where it listens. PostgreSQL may be running on the same host.
pub(crate) const PORT: u16 = 5433;
/// Where it answers HAProxy's checks as Patroni would.
pub(crate) const HEALTH_PORT: u16 = 8008;
/// The accept queue. The kernel limits it to `somaxconn`.
const BACKLOG: i32 = 4096;
/// Bytes per read of a client, which sends little.
const CHUNK: usize = 512;
/// Queries for an endless stream of CopyData to the client, and for one from it.
pub(crate) const ENDLESS_OUT: &str = "endless out";
pub(crate) const ENDLESS_IN: &str = "endless in";
/// Bytes per write and per read of an endless stream: eight messages.
const STREAM_CHUNK: usize = 64 * 1024;
/// The longest HTTP request of a check.
const REQUEST: usize = 4096;

/// The codes of SSLRequest and GSSENCRequest, which are refused with one byte.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];
const CANCEL: u32 = 80_877_102;

/// A running mock server. Dropping it ends it with every session.
#[derive(Debug)]
pub(crate) struct MockServer {
    state: Arc<State>,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The state that its sessions share, and that a case may read and change.
#[derive(Debug, Default)]
pub(crate) struct State {
    in_recovery: AtomicBool,
    login: Duration,
    logging_in: AtomicUsize,
    most_logging_in: AtomicUsize,
    first_answers: [OnceLock<Instant>; 2],
}

impl State {
    /// When it first answered a probe or a check with "in recovery", or with "leader".
    pub(crate) fn first_answer(&self, in_recovery: bool) -> Option<Instant> {
        self.first_answers[usize::from(in_recovery)].get().copied()
    }

    /// Makes it the leader, or puts it in recovery.
    pub(crate) fn set_in_recovery(&self, in_recovery: bool) {
        self.in_recovery.store(in_recovery, Relaxed);
    }

    /// The most connections at the same time that had not logged in yet.
    pub(crate) fn most_logging_in(&self) -> usize {
        self.most_logging_in.load(Relaxed)
    }

    /// Whether it answers "in recovery".
    fn answer(&self) -> bool {
        let in_recovery = self.in_recovery.load(Relaxed);
        self.first_answers[usize::from(in_recovery)].get_or_init(Instant::now);
        in_recovery
    }
}

impl MockServer {
    /// Starts it on the server's host. A login takes the time `login`, without work.
    pub(crate) fn start(sandbox: &Sandbox, in_recovery: bool, login: Duration) -> Result<Self> {
        let hosts = &sandbox.hosts;
        let (sessions, checks) = hosts
            .server
            .run(|| Ok((listen(hosts.listen_address(PORT))?, listen(hosts.listen_address(HEALTH_PORT))?)))?;
        let state = Arc::new(State { login, ..State::default() });
        state.set_in_recovery(in_recovery);
        let (stop, stopped) = oneshot::channel();
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("mock-server".to_owned())
            .spawn(move || {
                LocalSet::new().block_on(&runtime, async {
                    tokio::select! {
                        _ = serve(sessions, checks, shared) => {}
                        _ = stopped => {}
                    }
                });
            })
            .context("starting a thread")?;
        Ok(Self { state, stop: Some(stop), thread: Some(thread) })
    }

    /// Its state.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }
}

impl Drop for MockServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        std::io::Result::Ok(socket.into())
    };
    bound().with_context(|| format!("listening on {address}"))
}

async fn serve(
    sessions: std::net::TcpListener,
    checks: std::net::TcpListener,
    state: Arc<State>,
) -> std::io::Result<()> {
    let (sessions, checks) = (TcpListener::from_std(sessions)?, TcpListener::from_std(checks)?);
    let mut open = JoinSet::new();
    loop {
        let state = Arc::clone(&state);
        tokio::select! {
            Ok((client, _)) = sessions.accept() => { open.spawn_local(session(client, state)); }
            Ok((client, _)) = checks.accept() => { open.spawn_local(answer_check(client, state)); }
            Some(_) = open.join_next(), if !open.is_empty() => {}
        }
    }
}

/// Counts a connection until it has logged in.
struct LoggingIn(Arc<State>);

impl LoggingIn {
    fn new(state: &Arc<State>) -> Self {
        let count = state.logging_in.fetch_add(1, Relaxed) + 1;
        state.most_logging_in.fetch_max(count, Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for LoggingIn {
    fn drop(&mut self) {
        self.0.logging_in.fetch_sub(1, Relaxed);
    }
}

/// One session. The end of the connection ends it, and is not reported.
async fn session(mut client: TcpStream, state: Arc<State>) -> std::io::Result<()> {
    let logging_in = LoggingIn::new(&state);
    client.set_nodelay(true)?;
    // Closing with a reset leaves no TIME_WAIT, which would get in the way of the next case.
    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    loop {
        let length = usize::try_from(client.read_u32().await?).unwrap_or(usize::MAX);
        let code = client.read_u32().await?;
        let mut rest = vec![0; length.saturating_sub(8).min(CHUNK)];
        client.read_exact(&mut rest).await?;
        if ENCRYPTION.contains(&code) {
            client.write_all(b"N").await?;
            continue;
        }
        if code == CANCEL {
            return Ok(());
        }
        break;
    }
    if !state.login.is_zero() {
        tokio::time::sleep(state.login).await;
    }
    client.write_all(&answers::login()).await?;
    drop(logging_in);
    let mut bytes = Vec::new();
    loop {
        while let Some((kind, body)) = first_message(&bytes) {
            let size = 5 + body.len();
            match kind {
                b'Q' if is(body, ENDLESS_OUT) => return stream_out(client).await,
                b'Q' if is(body, ENDLESS_IN) => return stream_in(client).await,
                b'Q' => client.write_all(&answers::query(body, || state.answer())).await?,
                b'X' => return Ok(()),
                _ => {}
            }
            bytes.drain(..size);
        }
        if bytes.is_empty() {
            // An idle session has no buffer, so that ten thousand leave the memory to the setup.
            bytes = Vec::new();
            client.readable().await?;
        }
        bytes.reserve(CHUNK);
        match client.try_read_buf(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => client.readable().await?,
            Err(error) => return Err(error),
        }
    }
}

fn is(query: &[u8], sql: &str) -> bool {
    query.strip_suffix(b"\0") == Some(sql.as_bytes())
}

async fn stream_out(mut client: TcpStream) -> std::io::Result<()> {
    let data = message(b'd', &[b'x'; STREAM_CHUNK / 8 - 5]).repeat(8);
    loop {
        client.write_all(&data).await?;
    }
}

async fn stream_in(mut client: TcpStream) -> std::io::Result<()> {
    let mut chunk = vec![0; STREAM_CHUNK];
    while client.read(&mut chunk).await? > 0 {}
    Ok(())
}

/// Answers `OPTIONS /primary` as Patroni does: 200 on a leader, 503 elsewhere.
async fn answer_check(mut client: TcpStream, state: Arc<State>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let status = if state.answer() { "503 Service Unavailable" } else { "200 OK" };
    let head = format!("HTTP/1.0 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await?;
    client.shutdown().await
}
