//! Serves the admin address and the control socket: few connections, one short request each.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

use axum::Router;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{self, sleep, sleep_until};
use tower::util::MapResponse;
use tracing::{debug, warn};

use crate::logging::Seldom;

/// How long a client may take to send its request.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// How long a request may be, in bytes: the least that hyper allows.
const REQUEST_BYTES: usize = 8192;
/// How long to wait when a connection cannot be accepted, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bounds of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How many connections there may be at once. For one more the oldest is closed, so that clients that send nothing
    /// cannot keep others out.
    pub(crate) connections: usize,
    /// How long a connection may last. Each serves one request.
    pub(crate) time: Duration,
}

/// An extension of a response whose body goes on: its connection may last this long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lasts(pub(crate) Duration);

/// Where connections come from.
pub(crate) trait Listen: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What it is called in log lines.
    const NAME: &'static str;

    /// Waits for the next connection. It is cancel safe.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    const NAME: &'static str = "admin address";

    async fn accept(&self) -> io::Result<TcpStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    const NAME: &'static str = "control socket";

    async fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Answers until the process ends. `router` makes what answers on a connection; a connection without it is closed.
pub(crate) async fn serve<L: Listen>(
    listener: L,
    router: impl Fn(&L::Stream) -> Option<Router> + Send,
    limits: Limits,
) -> Infallible {
    let mut connections = Connections::default();
    let mut failures = Seldom::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    if let Some(router) = router(&stream) {
                        connections.start(connection::<L>(stream, router, limits.time), limits.connections).await;
                    }
                }
                Err(error) => {
                    if let Some(times) = failures.due(Instant::now()) {
                        warn!(%error, times, "the {} cannot accept a connection", L::NAME);
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            () = connections.finished() => {}
        }
    }
}

/// The open connections.
#[derive(Debug, Default)]
struct Connections {
    running: JoinSet<()>,
    /// In the order in which they were accepted.
    handles: VecDeque<AbortHandle>,
}

impl Connections {
    /// Runs a connection, after the oldest ones have made room for it.
    async fn start(&mut self, connection: impl Future<Output = ()> + Send + 'static, at_most: usize) {
        while self.running.len() >= at_most {
            self.handles.pop_front().iter().for_each(AbortHandle::abort);
            self.finished().await;
        }
        self.handles.retain(|handle| !handle.is_finished());
        self.handles.push_back(self.running.spawn(connection));
    }

    /// Waits until a connection ends, and forgets it.
    async fn finished(&mut self) {
        if self.running.join_next().await.is_none() {
            std::future::pending().await
        }
    }
}

async fn connection<L: Listen>(stream: L::Stream, router: Router, time: Duration) {
    let end = watch::Sender::new(time::Instant::now() + time);
    let ended = passed(end.subscribe());
    let service = MapResponse::new(router, move |response: Response| {
        if let Some(Lasts(time)) = response.extensions().get() {
            end.send_replace(time::Instant::now() + *time);
        }
        response
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(REQUEST_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::select! {
        served = served => if let Err(error) = served {
            debug!(%error, "a connection to the {} failed", L::NAME);
        },
        () = ended => {}
    }
}

/// Waits until a moment that may be moved has passed.
async fn passed(mut moment: watch::Receiver<time::Instant>) {
    loop {
        let at = *moment.borrow_and_update();
        tokio::select! {
            () = sleep_until(at) => return,
            Ok(()) = moment.changed() => {}
        }
    }
}
