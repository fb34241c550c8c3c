//! What is answered on the admin address, path by path.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::handler::Handler;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get};
use axum::{Extension, Router, middleware};
use pg_leader_proxy_core::Moment;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::access::{self, AccessCheck};
use super::answers::{FailoversAnswer, RoutingAnswer};
use super::failovers;
use super::metrics::{self, Format, Measured};
use super::page::{self, Live};
use super::process_stats::ProcessStats;
use super::routing::{self, Process};
use crate::config::AdminAccess;
use crate::control::{View, ViewHandle};
use crate::counters::Counters;
use crate::http_server::{self, Limits};
use crate::logging::Logging;
use crate::phase::Phase;

/// How long control may take to answer; it answers at once unless the machine has no time for it.
const VIEW_TIME: Duration = Duration::from_secs(1);

/// How long a connection may last, and how long the reader of a stream may take nothing.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// The answer to every other path.
const PATHS: &str = "\
no such path; there are:
/           a page for people
/events     the updates of that page
/page.js    its script
/page.css   its style
/icon.svg   its icon
/live       200 while the process runs
/ready      200 once the cluster has been seen, until the proxy drains
/leader     200 with the leader, 503 with the reason why there is none
/primary    the same, for checks that were written for Patroni
/replica    200 while the read route takes new sessions, else 503
/routing    the decision and everything it rests on
/failovers  the changes of leader
/metrics    for Prometheus
";

/// What the answers are made from.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The name of the cluster.
    pub cluster: Arc<str>,
    /// Asks control.
    pub view: ViewHandle,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What the process is doing.
    pub phase: watch::Receiver<Phase>,
    /// When the process started.
    pub started: Moment,
    /// The addresses that the process listens on, each with its block of the configuration.
    pub listening: watch::Receiver<Vec<(&'static str, SocketAddr)>>,
    /// Who is answered.
    pub access: watch::Receiver<AdminAccess>,
    /// The log, if the process has set it up.
    pub logging: Option<Logging>,
}

impl Admin {
    async fn view(&self) -> Result<View, Failure> {
        timeout(VIEW_TIME, self.view.view()).await.ok().flatten().ok_or(Failure::Unavailable)
    }

    pub(super) async fn answers(&self) -> Result<(RoutingAnswer, FailoversAnswer), Failure> {
        let view = self.view().await?;
        let listening = self.listening.borrow().clone();
        let process = Process {
            cluster: &self.cluster,
            counters: &self.counters,
            phase: *self.phase.borrow(),
            started: self.started,
            listening: &listening,
        };
        Ok((routing::routing(&view, process), failovers::failovers(&view, process)))
    }
}

/// Why there is no answer.
pub(super) enum Failure {
    /// Control gave no view.
    Unavailable,
    /// The answer could not be written.
    Unwritable(Box<dyn std::error::Error>),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "the router does not answer\n").into_response()
            }
            Self::Unwritable(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
            }
        }
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Unwritable(Box::new(error))
    }
}

/// Answers on the admin address until the process ends, on at most `connections` at once.
pub async fn serve(listener: TcpListener, admin: Admin, connections: usize) -> Infallible {
    let live = Arc::new(Live::new(admin.clone(), connections));
    let check = Arc::new(AccessCheck::new(admin.access.clone(), Arc::clone(&admin.counters)));
    let router = routes(admin, page::routes(Arc::clone(&live)), Arc::clone(&check));
    let limits = Limits { connections, time: CONNECTION_TIME };
    // A page whose reader has stopped reading would otherwise hold its connection for as long as a stream may last.
    if let Err(error) = SockRef::from(&listener).set_tcp_user_timeout(Some(CONNECTION_TIME)) {
        warn!(%error, "connections to the admin address that stopped reading are not closed early");
    }
    let router_for = move |stream: &TcpStream| Some(router.clone().layer(Extension(check.admit(stream)?)));
    tokio::select! {
        never = http_server::serve(listener, router_for, limits) => never,
        never = live.run() => never,
    }
}

/// The paths and what answers them, those of the page among them. Two need no token: who restarts the process or sends it
/// clients may ask whether to, and the answers tell nothing about the cluster.
fn routes(admin: Admin, page: Router, check_access: Arc<AccessCheck>) -> Router {
    let with_token = Router::new()
        .route("/leader", check(leader))
        .route("/primary", check(leader))
        .route("/replica", check(replica))
        .route("/routing", get(decision))
        .route("/failovers", get(changes))
        .route("/metrics", get(exposition))
        .with_state(admin.clone())
        .merge(page)
        .route_layer(middleware::from_fn_with_state(check_access, access::check_token));
    Router::new()
        .route("/live", check(async || "alive\n"))
        .route("/ready", check(ready))
        .with_state(admin)
        .merge(with_token)
        .fallback(async || (StatusCode::NOT_FOUND, PATHS))
}

/// A health check: OPTIONS is answered like GET, because many files of HAProxy check Patroni with it.
fn check<H, T>(handler: H) -> MethodRouter<Admin>
where
    H: Handler<T, Admin> + Clone,
    T: 'static,
{
    get(handler.clone()).options(handler)
}

async fn ready(State(admin): State<Admin>) -> Result<Response, Failure> {
    let view = admin.view().await?;
    let phase = *admin.phase.borrow();
    Ok(match routing::readiness(&view, phase) {
        Ok(()) => "ready\n".into_response(),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")).into_response(),
    })
}

async fn leader(State(admin): State<Admin>) -> Result<Response, Failure> {
    let view = admin.view().await?;
    Ok(match routing::leader(&view) {
        Ok(leader) => Json(leader).into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, Json(reason)).into_response(),
    })
}

async fn replica(State(admin): State<Admin>) -> Result<Response, Failure> {
    let (routing, _) = admin.answers().await?;
    let read = routing.read;
    let takes_sessions = read.servers.iter().any(|server| server.new_sessions);
    let status = if takes_sessions { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(read)).into_response())
}

async fn decision(State(admin): State<Admin>) -> Result<Json<RoutingAnswer>, Failure> {
    let (routing, _) = admin.answers().await?;
    Ok(Json(routing))
}

async fn changes(State(admin): State<Admin>) -> Result<Json<FailoversAnswer>, Failure> {
    let (_, failovers) = admin.answers().await?;
    Ok(Json(failovers))
}

async fn exposition(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Failure> {
    let (routing, failovers) = admin.answers().await?;
    let format = Format::wanted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    let dropped_log_lines = admin.logging.as_ref().map_or(0, Logging::dropped_lines);
    let process = ProcessStats::read()
        .inspect_err(|error| debug!(%error, "cannot read what this process takes from the machine"));
    let measured =
        Measured { routing, failovers, counters: admin.counters, dropped_log_lines, process: process.ok() };
    let text = metrics::exposition(measured, format)?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}
