//! Who is answered on the admin address: by the network of the connection, and by a token in the request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::warn;

use crate::config::AdminAccess;
use crate::counters::{AdminRefusal, Counters};
use crate::logging::Seldom;

/// The answer to a request without the token.
const NO_TOKEN: &str = "a token is needed (admin.token_file): send it as \"Authorization: Bearer TOKEN\", or as the password of any user\n";
/// The ways to send it: RFC 6750 for programs, RFC 7617 for browsers, which ask a person for it.
const CHALLENGES: [&str; 2] = ["Bearer realm=\"pg-leader-proxy\"", "Basic realm=\"pg-leader-proxy\""];

/// The address of a connection's other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(SocketAddr);

/// Decides who is answered, by the configuration in force.
#[derive(Debug)]
pub(super) struct AccessCheck {
    access: watch::Receiver<AdminAccess>,
    counters: Arc<Counters>,
    logged: Mutex<[Seldom; AdminRefusal::ALL.len()]>,
}

impl AccessCheck {
    pub(super) fn new(access: watch::Receiver<AdminAccess>, counters: Arc<Counters>) -> Self {
        Self { access, counters, logged: Mutex::default() }
    }

    /// Where a connection comes from; `None` if connections from there are not answered.
    ///
    /// Not even with an error: whoever is not allowed would otherwise take places from those who are.
    pub(super) fn admit(&self, stream: &TcpStream) -> Option<Peer> {
        // Fails only if the connection is broken already.
        let peer = stream.peer_addr().ok()?;
        let allowed = self.access.borrow().allowed_networks.as_ref().is_none_or(|of| of.contains(peer.ip()));
        if !allowed {
            self.refuse(AdminRefusal::NetworkNotAllowed, peer);
        }
        allowed.then_some(Peer(peer))
    }

    /// Whether a request with these headers carries the token, if there must be one.
    fn has_token(&self, headers: &HeaderMap) -> bool {
        let access = self.access.borrow();
        let Some(token) = &access.token else { return true };
        let given = headers.get(header::AUTHORIZATION).and_then(sent_token);
        given.is_some_and(|given| is_same(&given, token.expose().as_bytes()))
    }

    fn refuse(&self, refusal: AdminRefusal, peer: SocketAddr) {
        self.counters.admin_refusals(refusal).increment();
        // A panic under the lock cannot leave the times inconsistent.
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = logged[refusal as usize].due(Instant::now()) {
            warn!(client = %peer, reason = refusal.code(), times, "refused on the admin address");
        }
    }
}

/// Passes on the requests that carry the token.
pub(super) async fn check_token(
    State(check): State<Arc<AccessCheck>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if check.has_token(request.headers()) {
        return next.run(request).await;
    }
    check.refuse(AdminRefusal::BadToken, peer);
    let mut response = (StatusCode::UNAUTHORIZED, NO_TOKEN).into_response();
    for challenge in CHALLENGES {
        response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// The token in an `Authorization` header: `Bearer TOKEN`, or `Basic` with the token as the password of any user.
fn sent_token(value: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.trim().into());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = openssl::base64::decode_block(credentials.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_owned())
}

/// Compares in a time that depends on the lengths alone.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    given.len() == token.len() && openssl::memcmp::eq(given, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_by_either_scheme() {
        let sent = |value: &'static str| sent_token(&HeaderValue::from_static(value));
        for value in ["Bearer s3cret", "bearer s3cret", "Basic YW55OnMzY3JldA==", "basic OnMzY3JldA=="] {
            assert_eq!(sent(value).as_deref(), Some(&b"s3cret"[..]), "{value}");
        }
        for value in ["s3cret", "Digest s3cret", "Basic s3cret", "Basic YW55", "Bearer"] {
            assert_eq!(sent(value), None, "{value}");
        }
    }

    #[test]
    fn only_the_whole_token_is_the_same() {
        assert!(is_same(b"s3cret", b"s3cret"));
        assert!(!is_same(b"s3cre", b"s3cret") && !is_same(b"s3crett", b"s3cret") && !is_same(b"", b"s3cret"));
    }
}
