//! The stand-in: a server that speaks just enough PostgreSQL for logins, probes and a query, for cases in which a real one
//! would need ten thousand processes. It leads or is in recovery as it is told, and knows when it said so first.

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

use super::protocol::first_message;
use super::workshop::Workshop;

/// Where it listens: beside the real one, which may run at the same time.
pub const PORT: u16 = 5433;
/// Where it answers HAProxy's checks as Patroni would.
pub const HEALTH_PORT: u16 = 8008;
/// The accept queue; the kernel lowers it to `somaxconn`.
const BACKLOG: i32 = 4096;
/// What is read at once of a client; nobody sends it much.
const CHUNK: usize = 512;
/// An HTTP request of a check.
const REQUEST: usize = 4096;

/// SSLRequest and GSSENCRequest, which are refused with a single byte.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];
const CANCEL: u32 = 80_877_102;

/// A running stand-in. Dropping it ends it, with every session.
#[derive(Debug)]
pub struct StandIn {
    state: Arc<State>,
    /// Dropped to end the thread.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What its sessions share and those who watch it may look at.
#[derive(Debug, Default)]
pub struct State {
    in_recovery: AtomicBool,
    login: Duration,
    making: AtomicUsize,
    most_making: AtomicUsize,
    told: [OnceLock<Instant>; 2],
}

impl State {
    /// When it first told anybody, a probe or a check, that it is in recovery, or that it leads.
    #[must_use]
    pub fn told(&self, in_recovery: bool) -> Option<Instant> {
        self.told[usize::from(in_recovery)].get().copied()
    }

    /// Whether it leads or is in recovery, from now on.
    pub fn set_in_recovery(&self, in_recovery: bool) {
        self.in_recovery.store(in_recovery, Relaxed);
    }

    /// The most connections that were there at once without having logged in.
    #[must_use]
    pub fn most_making(&self) -> usize {
        self.most_making.load(Relaxed)
    }

    /// What it says when asked.
    fn says_in_recovery(&self) -> bool {
        let in_recovery = self.in_recovery.load(Relaxed);
        self.told[usize::from(in_recovery)].get_or_init(Instant::now);
        in_recovery
    }
}

impl StandIn {
    /// Starts it on the server's host. A login takes `login`, without work.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(workshop: &Workshop, in_recovery: bool, login: Duration) -> Result<Self> {
        let hosts = &workshop.hosts;
        let (sessions, checks) = hosts.server.within(|| {
            Ok((listen(hosts.listen_address(PORT))?, listen(hosts.listen_address(HEALTH_PORT))?))
        })?;
        let state = Arc::new(State { login, ..State::default() });
        state.set_in_recovery(in_recovery);
        let (end, ended) = oneshot::channel();
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("stand-in".to_owned())
            .spawn(move || {
                LocalSet::new().block_on(&runtime, async {
                    tokio::select! {
                        _ = serve(sessions, checks, shared) => {}
                        _ = ended => {}
                    }
                });
            })
            .context("starting a thread")?;
        Ok(Self { state, end: Some(end), thread: Some(thread) })
    }

    /// What may be looked at and changed from anywhere.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported already.
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

/// Counts a connection that has not logged in yet.
struct Making(Arc<State>);

impl Making {
    fn new(state: &Arc<State>) -> Self {
        let making = state.making.fetch_add(1, Relaxed) + 1;
        state.most_making.fetch_max(making, Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.0.making.fetch_sub(1, Relaxed);
    }
}

/// One session; the end of the connection is its only end, and no error to tell.
async fn session(mut client: TcpStream, state: Arc<State>) -> std::io::Result<()> {
    let making = Making::new(&state);
    client.set_nodelay(true)?;
    // No session of the bench ends in peace, and what its address leaves behind would be in the way of the next case.
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
    client.write_all(&answers::welcome()).await?;
    drop(making);
    let mut bytes = Vec::new();
    loop {
        while let Some((kind, body)) = first_message(&bytes) {
            let size = 5 + body.len();
            match kind {
                b'Q' => client.write_all(&answers::answer(body, || state.says_in_recovery())).await?,
                b'X' => return Ok(()),
                _ => {}
            }
            bytes.drain(..size);
        }
        if bytes.is_empty() {
            // An idle session costs no buffer, so that ten thousand leave the machine to the contender.
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

/// As Patroni answers `OPTIONS /primary`: 200 on a leader, 503 elsewhere.
async fn answer_check(mut client: TcpStream, state: Arc<State>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let status = if state.says_in_recovery() { "503 Service Unavailable" } else { "200 OK" };
    let head = format!("HTTP/1.0 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await?;
    client.shutdown().await
}
