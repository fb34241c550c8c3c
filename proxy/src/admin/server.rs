//! Serves the admin address: few connections, one short request each.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::routes::{Admin, routes};
use crate::logging::Seldom;

/// How long a client may take to send its request.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// How long a connection may last. Each serves one request.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// How long a request may be, in bytes: the least that hyper allows.
const REQUEST_BYTES: usize = 8192;
/// How long to wait when a connection cannot be accepted, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers on the admin address until the process ends, on at most `max_connections` at once. For one more the oldest is
/// closed, so that clients that send nothing cannot make a health check fail.
pub async fn serve(listener: TcpListener, admin: Admin, max_connections: usize) -> Infallible {
    let service = TowerToHyperService::new(routes(admin));
    let mut connections = Connections::default();
    let mut failures = Seldom::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connections.start(connection(stream, service.clone()), max_connections).await,
                Err(error) => {
                    if let Some(times) = failures.due(Instant::now()) {
                        warn!(%error, times, "the admin address cannot accept a connection");
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
    async fn start(&mut self, connection: impl Future<Output = ()> + Send + 'static, max: usize) {
        while self.running.len() >= max {
            self.handles.pop_front().iter().for_each(AbortHandle::abort);
            self.finished().await;
        }
        self.handles.retain(|handle| !handle.is_finished());
        // A time-out is the end of the connection and nothing else.
        let bounded = async { timeout(CONNECTION_TIME, connection).await.unwrap_or_default() };
        self.handles.push_back(self.running.spawn(bounded));
    }

    /// Waits until a connection ends, and forgets it.
    async fn finished(&mut self) {
        if self.running.join_next().await.is_none() {
            std::future::pending().await
        }
    }
}

async fn connection(stream: TcpStream, service: TowerToHyperService<axum::Router>) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(REQUEST_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection to the admin address failed");
    }
}
