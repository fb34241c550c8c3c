//! Errors of probes, for people, and the failure that each one means to the router.

use std::error::Error;
use std::io;
use std::time::Duration;

use openssl::ssl::ErrorCode;
use pg_leader_proxy_core::display::HumanDuration;
use pg_leader_proxy_core::{ProbeFailure, ServerAddr};
use tokio_postgres::error::{DbError, Severity, SqlState};

use super::super::chain;
use super::login_watch::Forbidden;
use super::site::Site;

/// An error of a library.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Why a probe got no reply.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A certificate or a key cannot be used.
    #[error("cannot set up TLS for probes: {what}")]
    Files {
        /// The file, and what is wrong with it.
        what: String,
    },
    /// OpenSSL rejects the settings.
    #[error("cannot set up TLS for probes")]
    Tls(#[source] openssl::error::ErrorStack),
    /// The host name cannot be resolved.
    #[error("cannot resolve the host name of {addr}")]
    Unresolved {
        /// The server.
        addr: ServerAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The TCP connection failed.
    #[error("cannot connect to {site}")]
    Unreachable {
        /// The server.
        site: Site,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The server did not answer in time.
    #[error("no answer from {site} within {} while trying to {operation}", HumanDuration(*limit))]
    Timeout {
        /// The server.
        site: Site,
        /// What the probe was doing.
        operation: &'static str,
        /// The timeout.
        limit: Duration,
    },
    /// The server offers no TLS, which `sslmode` demands.
    #[error("TLS failed with {site}: the server offers none, and probe.sslmode demands it")]
    NoTls {
        /// The server.
        site: Site,
    },
    /// The TLS handshake failed.
    #[error("TLS failed with {site}: compare sslmode and the certificates with the server's settings")]
    Handshake {
        /// The server.
        site: Site,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The server asked for a method of authentication that `require_auth` does not allow.
    #[error("cannot log in to {site}: {what}")]
    Forbidden {
        /// The server.
        site: Site,
        /// What it asked for.
        what: String,
    },
    /// The login failed.
    #[error("cannot log in to {site} {} TLS: {}", if *encrypted { "with" } else { "without" }, advice(source))]
    Login {
        /// The server.
        site: Site,
        /// Whether there was TLS.
        encrypted: bool,
        /// The cause.
        #[source]
        source: tokio_postgres::Error,
    },
    /// It failed with TLS and without it.
    #[error("{}; then", chain(first))]
    Twice {
        /// The first failure.
        first: Box<Self>,
        /// The second one.
        #[source]
        last: Box<Self>,
    },
    /// The server answered the query with an error, or closed the connection.
    #[error("the probe's query to {site} failed")]
    Query {
        /// The server.
        site: Site,
        /// The cause.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server closed the connection without an error.
    #[error("{site} closed the connection")]
    Closed {
        /// The server.
        site: Site,
    },
    /// The reply is not what PostgreSQL returns.
    #[error("{site} sent an invalid reply: {what}")]
    InvalidReply {
        /// The server.
        site: Site,
        /// What is wrong with it.
        what: String,
    },
    /// The receiver of observations is gone: the proxy is shutting down.
    #[error("the receiver of the probes' observations is gone")]
    ReceiverGone,
}

impl ProbeError {
    /// The failure of a login, or what the login's watch has stopped.
    pub(super) fn login(site: &Site, encrypted: bool, source: tokio_postgres::Error) -> Self {
        let stopped = causes(&source)
            .find_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<Forbidden>());
        match stopped {
            Some(forbidden) => Self::Forbidden { site: site.clone(), what: forbidden.to_string() },
            None => Self::Login { site: site.clone(), encrypted, source },
        }
    }

    /// Whether an attempt with TLS (`encrypts`) or without it may succeed where this one did not: the handshake failed, or
    /// pg_hba.conf has no line for this kind of connection.
    pub(super) fn may_succeed(&self, encrypts: bool) -> bool {
        match self {
            Self::Handshake { .. } => !encrypts,
            Self::Login { encrypted, source, .. } => {
                *encrypted != encrypts
                    && source.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
            }
            Self::Files { .. }
            | Self::Tls(_)
            | Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::NoTls { .. }
            | Self::Forbidden { .. }
            | Self::Twice { .. }
            | Self::Query { .. }
            | Self::Closed { .. }
            | Self::InvalidReply { .. }
            | Self::ReceiverGone => false,
        }
    }

    /// What this error means to the router.
    ///
    /// "Refused" over the kept connection says that the server is down, so it is reserved for proof that nobody listens
    /// there. A connection that was made and broke proves nothing of the server, nor does an unreachable host, which
    /// may be alive behind a broken network and counts like silence.
    pub fn failure(&self) -> ProbeFailure {
        match self {
            Self::Timeout { .. } => ProbeFailure::TimedOut,
            Self::Unresolved { .. } => ProbeFailure::Unresolved,
            Self::Unreachable { source, .. } => classify_io(source),
            Self::Closed { .. } => ProbeFailure::Reset,
            Self::Login { source, .. } | Self::Query { source, .. } => classify_postgres(source),
            Self::Handshake { source, .. } => classify_handshake(&**source),
            Self::Forbidden { .. } => ProbeFailure::Denied,
            // A server that offers no TLS has said no by its first answer.
            Self::Twice { first, last } if matches!(**last, Self::NoTls { .. }) => first.failure(),
            Self::Twice { last, .. } => last.failure(),
            Self::Files { .. }
            | Self::Tls(_)
            | Self::NoTls { .. }
            | Self::InvalidReply { .. }
            | Self::ReceiverGone => ProbeFailure::Failed,
        }
    }

    /// Whether the connection can still be used: the server rejected one query, but not the session.
    pub(super) fn keeps_connection(&self) -> bool {
        match self {
            Self::Query { source, .. } => {
                source.as_db_error().and_then(DbError::parsed_severity) == Some(Severity::Error)
            }
            Self::InvalidReply { .. } => true,
            Self::Files { .. }
            | Self::Tls(_)
            | Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::NoTls { .. }
            | Self::Handshake { .. }
            | Self::Forbidden { .. }
            | Self::Login { .. }
            | Self::Twice { .. }
            | Self::Closed { .. }
            | Self::ReceiverGone => false,
        }
    }
}

fn classify_io(error: &io::Error) -> ProbeFailure {
    use io::ErrorKind as Kind;
    let broke = [
        Kind::ConnectionReset,
        Kind::ConnectionAborted,
        Kind::BrokenPipe,
        Kind::NotConnected,
        Kind::UnexpectedEof,
    ];
    let silent = [Kind::TimedOut, Kind::HostUnreachable, Kind::NetworkUnreachable];
    if error.kind() == Kind::ConnectionRefused {
        ProbeFailure::Refused
    } else if broke.contains(&error.kind()) {
        ProbeFailure::Reset
    } else if silent.contains(&error.kind()) {
        ProbeFailure::TimedOut
    } else {
        ProbeFailure::Failed
    }
}

fn classify_postgres(error: &tokio_postgres::Error) -> ProbeFailure {
    if let Some(error) = error.as_db_error() {
        return classify_sqlstate(error);
    }
    if error.is_closed() {
        return ProbeFailure::Reset;
    }
    if is_authentication(error) {
        return ProbeFailure::Denied;
    }
    let broken = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    broken.map_or(ProbeFailure::Failed, classify_io)
}

/// A connection that broke during the handshake breaks also because the server is going down.
fn classify_handshake(error: &(dyn Error + 'static)) -> ProbeFailure {
    let tls = causes(error).find_map(|cause| cause.downcast_ref::<openssl::ssl::Error>());
    match tls {
        Some(error) if error.io_error().is_some() => {
            error.io_error().map_or(ProbeFailure::Failed, classify_io)
        }
        Some(error) if ended(error) => ProbeFailure::Reset,
        Some(_) | None => ProbeFailure::Failed,
    }
}

/// Whether the server just closed the connection.
fn ended(error: &openssl::ssl::Error) -> bool {
    let unexpected_end = |stack: &openssl::error::ErrorStack| {
        stack.errors().iter().any(|error| error.reason() == Some("unexpected eof while reading"))
    };
    error.code() == ErrorCode::ZERO_RETURN || error.ssl_error().is_some_and(unexpected_end)
}

/// The error, its cause, and so on.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        error.source()
    })
}

fn classify_sqlstate(error: &DbError) -> ProbeFailure {
    let code = error.code();
    if code == &SqlState::ADMIN_SHUTDOWN || code == &SqlState::CRASH_SHUTDOWN {
        // This one connection was ended. The next attempt tells what becomes of the server.
        ProbeFailure::Reset
    } else if code == &SqlState::CANNOT_CONNECT_NOW {
        // One SQLSTATE for starting up, recovering and shutting down; only the text, which may be translated, tells
        // them apart. Both mean that the server is down, so a wrong guess changes no decision.
        if error.message().contains("shutting down") {
            ProbeFailure::ShuttingDown
        } else {
            ProbeFailure::StartingUp
        }
    } else if code == &SqlState::TOO_MANY_CONNECTIONS {
        ProbeFailure::TooManyConnections
    } else if code == &SqlState::QUERY_CANCELED {
        ProbeFailure::TimedOut
    } else if is_denied(code) {
        ProbeFailure::Denied
    } else {
        ProbeFailure::Failed
    }
}

/// SQLSTATE class 28, an unknown database, or a database that the user may not connect to.
fn is_denied(code: &SqlState) -> bool {
    code.code().starts_with("28")
        || code == &SqlState::UNDEFINED_DATABASE
        || code == &SqlState::INSUFFICIENT_PRIVILEGE
}

/// Whether a password is missing or the authentication failed, by the client library's own account.
///
/// tokio-postgres keeps the kind of an error private, so only its text tells. The tests below fail when a release of the
/// library changes these texts.
fn is_authentication(error: &tokio_postgres::Error) -> bool {
    ["authentication error", "invalid configuration"].contains(&error.to_string().as_str())
}

/// What may be wrong when a login fails.
fn advice(error: &tokio_postgres::Error) -> &'static str {
    match error.code() {
        Some(code) if code == &SqlState::INVALID_PASSWORD => "the user or the password is wrong",
        Some(code) if code == &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "pg_hba.conf has no line that admits the monitoring user from here, or there is no such user"
        }
        Some(code) if code == &SqlState::UNDEFINED_DATABASE => "there is no such database",
        Some(code) if code == &SqlState::INSUFFICIENT_PRIVILEGE => {
            "the monitoring user may not connect to this database"
        }
        Some(code) if code == &SqlState::TOO_MANY_CONNECTIONS => {
            "no connection is left for the monitoring user"
        }
        Some(code) if code == &SqlState::CANNOT_CONNECT_NOW => "the server is starting up or shutting down",
        Some(_) => "the server rejected the login",
        None if is_authentication(error) => "the server wants a password, or the one given is wrong",
        None => "the connection broke",
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_postgres::config::SslMode;
    use tokio_postgres::{Config, NoTls};

    use super::*;

    /// How a login fails when the server answers the client's first packet with `answer`.
    async fn login(config: &Config, answer: &[u8]) -> tokio_postgres::Error {
        let (client, mut server) = duplex(1024);
        let serve = async {
            assert!(server.read(&mut [0; 1024]).await.unwrap() > 0);
            server.write_all(answer).await.unwrap();
            // Returned, so that it stays open and the client fails because of the answer.
            server
        };
        let (connected, _server) = tokio::join!(config.connect_raw(client, NoTls), serve);
        connected.map(drop).unwrap_err()
    }

    fn user() -> Config {
        let mut config = Config::new();
        config.user("monitor").ssl_mode(SslMode::Disable);
        config
    }

    #[tokio::test]
    async fn a_login_without_the_password_that_the_server_wants_is_denied() {
        let cleartext_password = b"R\0\0\0\x08\0\0\0\x03";
        let error = login(&user(), cleartext_password).await;
        assert!(is_authentication(&error), "{error}");
        assert_eq!(classify_postgres(&error), ProbeFailure::Denied);
    }

    #[tokio::test]
    async fn a_login_by_an_unknown_method_is_denied() {
        let sasl_by_x = b"R\0\0\0\x0b\0\0\0\x0aX\0\0";
        let error = login(user().password("secret"), sasl_by_x).await;
        assert!(is_authentication(&error), "{error}");
        assert_eq!(classify_postgres(&error), ProbeFailure::Denied);
    }
}
