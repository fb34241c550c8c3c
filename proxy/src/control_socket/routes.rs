//! The paths of the control socket: each request is authorised, carried out, logged with who sent it, and answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use tracing::{debug, info, warn};

use super::actions::{Actions, Outcome};
use super::answers::{
    CLUSTER_HEADER, ClusterAnswer, DoneAnswer, LogRequest, MemberRequest, RefusedAnswer, SessionsRequest,
    TerminateRequest,
};
use super::peer::{Access, Peer};
use crate::logging::Seldom;

/// The path that lists sessions.
const SESSIONS: &str = "/sessions";
/// The path that tells the cluster.
pub(super) const CLUSTER: &str = "/cluster";
/// The paths that only read.
const READING: [&str; 2] = [SESSIONS, CLUSTER];
/// How long the body of a request may be, in bytes.
const BODY_BYTES: usize = 16 * 1024;

/// The answer to every other path.
const PATHS: &str = "\
no such path; there are:
GET  /cluster    the cluster
GET  /sessions   the sessions; POST with {\"member\", \"user\", \"state\", \"route\"} for some of them
POST /reload     reads the configuration again
POST /pause      new sessions wait
POST /resume     they no longer do
POST /drain      {\"member\": NAME} gets no new readers
POST /undrain    {\"member\": NAME} may get them again
POST /terminate  ends {\"session\": NUMBER}, or those of {\"member\": NAME} or {\"user\": NAME}
POST /log        {\"filter\": FILTER} is what is logged until the next reload
";

/// The paths and what answers them, for anybody.
pub(super) fn routes(actions: Actions, access: Access) -> Router {
    let gate =
        Arc::new(AccessGate { access, cluster: Arc::clone(&actions.cluster), refused: Mutex::default() });
    Router::new()
        .route(SESSIONS, get(every_session).post(sessions))
        .route(CLUSTER, get(cluster))
        .route("/reload", post(reload))
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/drain", post(drain))
        .route("/undrain", post(undrain))
        .route("/terminate", post(terminate))
        .route("/log", post(log))
        .fallback(async || (StatusCode::NOT_FOUND, PATHS))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn_with_state(gate, authorise))
        .with_state(Arc::new(actions))
}

/// The same for one peer.
pub(super) fn of_peer(router: &Router, peer: Peer) -> Router {
    router.clone().layer(Extension(peer))
}

type Shared = State<Arc<Actions>>;
/// The body of a request. One that cannot be read is an error that says why.
type Body<T> = Result<Json<T>, JsonRejection>;

/// Who may pass, and how often somebody was refused.
#[derive(Debug)]
struct AccessGate {
    access: Access,
    cluster: Arc<str>,
    refused: Mutex<Seldom>,
}

impl AccessGate {
    /// Why the request is refused that names another cluster.
    fn other_cluster(&self, request: &Request) -> Option<String> {
        let named = request.headers().get(CLUSTER_HEADER)?.as_bytes();
        (named != self.cluster.as_bytes()).then(|| {
            let named = String::from_utf8_lossy(named);
            format!(
                "the command is meant for cluster {named}, but this is the proxy of cluster {}; nothing was changed",
                self.cluster
            )
        })
    }
}

async fn authorise(
    State(gate): State<Arc<AccessGate>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let (uid, gid, pid) = (peer.uid.as_raw(), peer.gid.as_raw(), peer.pid);
    match gate.access.check(peer).await {
        Ok(()) => {
            // Here, because a client that leaves takes its request with it, perhaps after that has had its effect.
            match READING.contains(&path.as_str()) {
                true => debug!(path, uid, gid, pid, "control socket: request"),
                false => info!(path, uid, gid, pid, "control socket: request"),
            }
            match gate.other_cluster(&request) {
                Some(error) => {
                    warn!(path, uid, gid, pid, "control socket: refused: {error}");
                    (StatusCode::CONFLICT, Json(RefusedAnswer { error })).into_response()
                }
                None => next.run(request).await,
            }
        }
        Err(error) => {
            let due = gate.refused.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now());
            if let Some(times) = due {
                warn!(path, times, "control socket: {error}");
            }
            (StatusCode::FORBIDDEN, Json(RefusedAnswer { error })).into_response()
        }
    }
}

/// Logs what came of a command and who sent it, and makes the answer.
fn answer(peer: Peer, command: &str, outcome: Outcome) -> Response {
    let (uid, gid, pid) = (peer.uid.as_raw(), peer.gid.as_raw(), peer.pid);
    match outcome {
        Ok(message) => {
            info!(command, uid, gid, pid, "control socket: {message}");
            Json(DoneAnswer { message }).into_response()
        }
        Err(error) => {
            warn!(command, uid, gid, pid, "control socket: refused: {error}");
            (StatusCode::UNPROCESSABLE_ENTITY, Json(RefusedAnswer { error })).into_response()
        }
    }
}

/// Carries out a command that needs a body.
async fn with_body<T>(
    peer: Peer,
    command: &str,
    body: Body<T>,
    act: impl AsyncFnOnce(T) -> Outcome,
) -> Response {
    let outcome = match body {
        Ok(Json(request)) => act(request).await,
        Err(error) => Err(error.body_text()),
    };
    answer(peer, command, outcome)
}

async fn reload(State(actions): Shared, Extension(peer): Extension<Peer>) -> Response {
    answer(peer, "reload", actions.reload().await)
}

async fn pause(State(actions): Shared, Extension(peer): Extension<Peer>) -> Response {
    answer(peer, "pause", actions.pause().await)
}

async fn resume(State(actions): Shared, Extension(peer): Extension<Peer>) -> Response {
    answer(peer, "resume", actions.resume().await)
}

async fn drain(
    State(actions): Shared,
    Extension(peer): Extension<Peer>,
    body: Body<MemberRequest>,
) -> Response {
    with_body(peer, "drain", body, async |request| actions.drain(&request.member).await).await
}

async fn undrain(
    State(actions): Shared,
    Extension(peer): Extension<Peer>,
    body: Body<MemberRequest>,
) -> Response {
    with_body(peer, "undrain", body, async |request| actions.undrain(&request.member).await).await
}

async fn terminate(
    State(actions): Shared,
    Extension(peer): Extension<Peer>,
    body: Body<TerminateRequest>,
) -> Response {
    with_body(peer, "terminate", body, async |request| actions.terminate(request).await).await
}

async fn log(State(actions): Shared, Extension(peer): Extension<Peer>, body: Body<LogRequest>) -> Response {
    with_body(peer, "log", body, async |request| actions.log(&request.filter)).await
}

async fn cluster(State(actions): Shared) -> Json<ClusterAnswer> {
    Json(ClusterAnswer { cluster: actions.cluster.as_ref().to_owned() })
}

async fn every_session(State(actions): Shared) -> Response {
    listed(actions.sessions(SessionsRequest::default()).await)
}

async fn sessions(State(actions): Shared, body: Body<SessionsRequest>) -> Response {
    match body {
        Ok(Json(request)) => listed(actions.sessions(request).await),
        Err(error) => listed(Err(error.body_text())),
    }
}

/// The answer with these sessions, in JSON.
fn listed(sessions: Result<Vec<u8>, String>) -> Response {
    match sessions {
        Ok(sessions) => ([(CONTENT_TYPE, "application/json")], sessions).into_response(),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, Json(RefusedAnswer { error })).into_response(),
    }
}
