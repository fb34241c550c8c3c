//! The page for people: rendered here, kept up to date by server-sent events, and without any asset from elsewhere.

mod history;
mod live;
mod parts;
mod timeline;

use std::sync::Arc;

use askama::Template as _;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response, Sse};
use axum::routing::get;

pub(super) use self::live::Live;
use self::parts::Page;
use super::routes::Failure;
use crate::http_server::Lasts;

/// What the page may load and run: files of this address, and nothing that a member's name might contain.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const SCRIPT: &str = include_str!("../../../templates/page/page.js");
const STYLE: &str = include_str!("../../../templates/page/page.css");
const ICON: &str = include_str!("../../../templates/page/icon.svg");

/// The paths of the page.
pub(super) fn routes(live: Arc<Live>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .route("/page.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
        .route("/page.css", get(async || file("text/css; charset=utf-8", STYLE)))
        .route("/icon.svg", get(async || file("image/svg+xml", ICON)))
        .with_state(live)
}

async fn page(State(live): State<Arc<Live>>) -> Result<Response, Failure> {
    let parts = live.parts().await?;
    let page = Page { cluster: live.cluster(), parts: &parts }.render()?;
    Ok((headers(), Html(page)).into_response())
}

/// The updates of the page. Each stream gets the newest state whenever it can take one, so none has a queue.
async fn events(State(live): State<Arc<Live>>) -> Response {
    match live.subscribe() {
        Some(updates) => {
            let mut response = Sse::new(updates).into_response();
            response.extensions_mut().insert(Lasts(live::STREAM_TIME));
            response
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open already\n").into_response(),
    }
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    (headers(), [(header::CONTENT_TYPE, content_type)], text).into_response()
}

fn headers() -> [(HeaderName, HeaderValue); 4] {
    [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // After an upgrade the script must be the one that the page was written for.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ]
}
