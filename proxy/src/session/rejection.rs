//! Rejections: the error for a client that is rejected before it has a server.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use pg_leader_proxy_core::Reason;
use pg_leader_proxy_core::display::HumanDuration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connect_failure::ConnectFailure;
use crate::admission::AddressLimit;
use crate::counters::RejectionKind;
use crate::route::RouteKind;
use crate::wire::{self, BadPacket, FirstPacket, SqlState};

/// How long a client may take to receive the error.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a client is rejected, and the error it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) kind: RejectionKind,
    state: SqlState,
    message: String,
    detail: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl Rejection {
    /// `failure` is the last failed attempt of this client to connect. Beside a reason for which the route waits it counts only
    /// if this machine is to blame: then that is perhaps why nothing is heard of the server either.
    pub(super) fn no_server(reason: Option<&Reason>, failure: Option<&ConnectFailure>) -> Self {
        Self {
            kind: RejectionKind::NoServer,
            state: SqlState::CannotConnectNow,
            message: "no server is available at the moment".to_owned(),
            detail: match (reason, failure) {
                (Some(reason), Some(failure)) if failure.is_local() => {
                    format!("{}; {failure}", reason.for_clients())
                }
                (Some(reason), _) => reason.for_clients().to_string(),
                (None, Some(failure)) => failure.to_string(),
                (None, None) => "other clients are still being let in".to_owned(),
            },
        }
    }

    pub(super) fn too_many_held(reason: Option<&Reason>) -> Self {
        Self {
            kind: RejectionKind::TooManyHeld,
            state: SqlState::CannotConnectNow,
            message: "too many clients are already waiting for a server".to_owned(),
            detail: reason.map_or_else(
                || "A server is there, and clients log in one after another.".to_owned(),
                |reason| reason.for_clients().to_string(),
            ),
        }
    }

    pub(super) fn too_many_sessions(limit: usize) -> Self {
        Self {
            kind: RejectionKind::TooManySessions,
            state: SqlState::TooManyConnections,
            message: "sorry, too many clients already".to_owned(),
            detail: format!(
                "The proxy allows {limit} sessions (session.max_sessions, or the limit of open files)."
            ),
        }
    }

    /// The words of PostgreSQL for an address without a line in `pg_hba.conf`, as far as they fit.
    pub(super) fn network_not_allowed(client: IpAddr, route: RouteKind) -> Self {
        Self {
            kind: RejectionKind::NetworkNotAllowed,
            state: SqlState::InvalidAuthorizationSpecification,
            message: format!("connections from host \"{}\" are not allowed", client.to_canonical()),
            detail: format!("It is in none of the networks of {}.allowed_networks.", route.code()),
        }
    }

    pub(super) fn address_limit(client: IpAddr, limit: AddressLimit) -> Self {
        let client = client.to_canonical();
        let (kind, message, detail) = match limit {
            AddressLimit::Sessions(limit) => (
                RejectionKind::TooManySessionsOfAddress,
                format!("too many sessions of host \"{client}\""),
                format!("The proxy allows {limit} of one address (session.max_sessions_per_address)."),
            ),
            AddressLimit::ConnectionsPerMinute(limit) => (
                RejectionKind::TooManyConnectionsOfAddress,
                format!("too many new connections of host \"{client}\""),
                format!(
                    "The proxy allows {limit} a minute of one address (session.max_connections_per_minute_per_address)."
                ),
            ),
        };
        Self { kind, state: SqlState::TooManyConnections, message, detail }
    }

    /// `problem` says what is wrong and names the bytes.
    pub(super) fn bad_proxy_header(problem: String) -> Self {
        Self {
            kind: RejectionKind::BadProxyHeader,
            state: SqlState::ProtocolViolation,
            message: problem,
            detail: "Connections of this address need one (proxy_protocol_from).".to_owned(),
        }
    }

    pub(super) fn late_proxy_header(bound: Duration, bytes: &[u8]) -> Self {
        let (bound, bytes) = (HumanDuration(bound), bytes.escape_ascii());
        Self::bad_proxy_header(format!(
            "no whole PROXY header came within {bound} (session.startup_timeout), only \"{bytes}\""
        ))
    }

    pub(super) fn bad_packet(error: BadPacket) -> Self {
        let state = match error {
            BadPacket::Protocol(_) => SqlState::FeatureNotSupported,
            BadPacket::Length(_) | BadPacket::Parameters => SqlState::ProtocolViolation,
        };
        Self { kind: RejectionKind::BadPacket, state, message: error.to_string(), detail: String::new() }
    }

    pub(super) fn silent(bound: Duration) -> Self {
        Self {
            kind: RejectionKind::Silent,
            state: SqlState::ProtocolViolation,
            message: "the first packet was not complete in time".to_owned(),
            detail: format!("The proxy waits {} for it (session.startup_timeout).", HumanDuration(bound)),
        }
    }

    pub(super) fn terminated() -> Self {
        Self {
            kind: RejectionKind::Terminated,
            state: SqlState::AdminShutdown,
            message: "terminating connection due to administrator command".to_owned(),
            detail: String::new(),
        }
    }

    pub(super) fn stopping() -> Self {
        Self {
            kind: RejectionKind::Stopping,
            state: SqlState::CannotConnectNow,
            message: "the proxy is shutting down".to_owned(),
            detail: String::new(),
        }
    }

    /// Whether it concerns cancel requests too: who may not connect reaches no server at all.
    pub(super) fn forbids_cancel(&self) -> bool {
        self.kind == RejectionKind::NetworkNotAllowed
    }

    /// Sends the error to the client and closes the connection.
    ///
    /// A client that asked for encryption gets the error instead of `S` or `N`. A client that began with TLS gets none,
    /// because it could not read it.
    pub(super) async fn send(self, mut client: TcpStream, packet: &FirstPacket) {
        if *packet == FirstPacket::DirectTls {
            return;
        }
        let error = wire::fatal(self.state, &self.message, &self.detail);
        let telling = async {
            client.write_all(&error).await?;
            client.shutdown().await
        };
        // A client that is gone or does not read gets no error.
        let _ = timeout(TELL_TIMEOUT, telling).await;
    }
}
