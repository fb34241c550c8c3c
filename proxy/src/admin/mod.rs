//! The admin address: health answers, the decision and why, failovers, metrics, and a page for people.

pub mod answers;
mod failovers;
mod members;
mod metrics;
mod page;
mod routing;
mod server;
pub(crate) mod words;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Json, Response};
use axum::routing::get;
use pg_leader_proxy_core::Moment;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::app::Phase;
use crate::control::{View, ViewHandle};
use crate::counters::Counters;
use answers::{FailoversAnswer, RoutingAnswer};
use routing::Process;

pub use server::serve;

/// How long control may take to answer; it answers at once unless the machine has no time for it.
const VIEW_TIME: Duration = Duration::from_secs(1);

/// What there is, for whoever asks for something else.
const PATHS: &str = "\
no such path; there are:
/           a page for people
/live       200 while the process runs
/ready      200 once the cluster has been seen, until the proxy drains
/leader     200 with the leader, 503 with the reason why there is none
/routing    the decision and everything it rests on
/failovers  the changes of leader
/metrics    for Prometheus
";

/// What the answers are made from.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Asks control.
    pub view: ViewHandle,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What the process is doing.
    pub phase: watch::Receiver<Phase>,
    /// When the process started.
    pub started: Moment,
}

impl Admin {
    async fn view(&self) -> Result<View, Unavailable> {
        timeout(VIEW_TIME, self.view.view()).await.ok().flatten().ok_or(Unavailable)
    }

    async fn answers(&self) -> Result<(RoutingAnswer, FailoversAnswer), Unavailable> {
        let view = self.view().await?;
        let process =
            Process { counters: &self.counters, phase: *self.phase.borrow(), started: self.started };
        Ok((routing::routing(&view, process), failovers::failovers(&view, &self.counters)))
    }
}

/// Control gave no view.
struct Unavailable;

impl axum::response::IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, "the router does not answer\n").into_response()
    }
}

fn routes(admin: Admin) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/live", get(async || "alive\n"))
        .route("/ready", get(ready))
        .route("/leader", get(leader))
        .route("/routing", get(decision))
        .route("/failovers", get(changes))
        .route("/metrics", get(exposition))
        .fallback(async || (StatusCode::NOT_FOUND, PATHS))
        .with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> Result<Response, Unavailable> {
    let view = admin.view().await?;
    let phase = *admin.phase.borrow();
    Ok(match routing::readiness(&view, phase) {
        Ok(()) => "ready\n".into_response(),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")).into_response(),
    })
}

async fn leader(State(admin): State<Admin>) -> Result<Response, Unavailable> {
    let view = admin.view().await?;
    Ok(match routing::leader(&view) {
        Ok(leader) => Json(leader).into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, Json(reason)).into_response(),
    })
}

async fn decision(State(admin): State<Admin>) -> Result<Response, Unavailable> {
    let (routing, _) = admin.answers().await?;
    Ok(Json(routing).into_response())
}

async fn changes(State(admin): State<Admin>) -> Result<Response, Unavailable> {
    let (_, failovers) = admin.answers().await?;
    Ok(Json(failovers).into_response())
}

async fn exposition(State(admin): State<Admin>) -> Result<Response, Unavailable> {
    let (routing, failovers) = admin.answers().await?;
    Ok(match metrics::exposition(&routing, &failovers) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    })
}

async fn page(State(admin): State<Admin>) -> Result<Response, Unavailable> {
    let (routing, failovers) = admin.answers().await?;
    let mut response = Html(page::page(&routing, &failovers)).into_response();
    let headers = response.headers_mut();
    // Names of members come from the DCS; the page must not run what they might contain.
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
