//! Serves the admin address: few connections, one short request each.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::routes::{Admin, routes};

/// How many connections there may be at once; more wait in the listener's queue.
const CONNECTIONS: usize = 64;
/// How long a client may take to send its request.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// How long a connection may last. Each serves one request, so that idle clients do not keep others out.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// How long a request may be, in bytes: the least that hyper allows.
const REQUEST_BYTES: usize = 8192;
/// How long to wait when a connection cannot be accepted, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers on the admin address until the process ends.
pub async fn serve(listener: TcpListener, admin: Admin) -> Infallible {
    let service = TowerToHyperService::new(routes(admin));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(timeout(CONNECTION_TIME, connection(stream, service.clone())));
                }
                Err(error) => pause(&error).await,
            },
            Some(_) = connections.join_next() => {}
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

async fn pause(error: &io::Error) {
    warn!(%error, "the admin address cannot accept a connection");
    sleep(ACCEPT_PAUSE).await;
}
