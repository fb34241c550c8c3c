//! Errors of probes, for people, and the failure that each one means to the router.

use std::error::Error;
use std::io;
use std::time::Duration;

use pg_leader_proxy_core::display::HumanDuration;
use pg_leader_proxy_core::{ProbeFailure, ServerAddr};
use tokio_postgres::error::{DbError, Severity, SqlState};

use super::site::Site;

/// Why a probe got no reply.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is no CA certificate to verify servers with.
    #[error("no CA certificate in {place}")]
    NoCaCertificate {
        /// The file or store that was searched.
        place: String,
    },
    /// rustls rejects the settings.
    #[error("cannot set up TLS for probes")]
    Tls(#[source] rustls::Error),
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
    /// The login failed.
    #[error("cannot log in to {site}: {}", advice(source))]
    Login {
        /// The server.
        site: Site,
        /// The cause.
        #[source]
        source: tokio_postgres::Error,
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
            Self::NoCaCertificate { .. } | Self::Tls(_) | Self::InvalidReply { .. } | Self::ReceiverGone => {
                ProbeFailure::Failed
            }
        }
    }

    /// Whether the connection can still be used: the server rejected one query, but not the session.
    pub(super) fn keeps_connection(&self) -> bool {
        match self {
            Self::Query { source, .. } => {
                source.as_db_error().and_then(DbError::parsed_severity) == Some(Severity::Error)
            }
            Self::InvalidReply { .. } => true,
            Self::NoCaCertificate { .. }
            | Self::Tls(_)
            | Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Login { .. }
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
    if LoginError::of(error) == Some(LoginError::Authentication) {
        return ProbeFailure::Denied;
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return classify_io(error);
        }
        cause = error.source();
    }
    ProbeFailure::Failed
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

/// What kind of error the client library itself raised during a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginError {
    /// A password is missing, or the authentication failed.
    Authentication,
    /// The TLS handshake failed.
    Tls,
}

impl LoginError {
    /// tokio-postgres keeps the kind of an error private, so only its text tells. The tests below fail when a release
    /// of the library changes these texts.
    fn of(error: &tokio_postgres::Error) -> Option<Self> {
        match error.to_string().as_str() {
            "authentication error" | "invalid configuration" => Some(Self::Authentication),
            "error performing TLS handshake" => Some(Self::Tls),
            _ => None,
        }
    }
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
        None => match LoginError::of(error) {
            Some(LoginError::Tls) => "TLS failed: compare sslmode and ca_file with the server's settings",
            Some(LoginError::Authentication) => "the server wants a password, or the one given is wrong",
            None => "the connection broke",
        },
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

    fn user(sslmode: SslMode) -> Config {
        let mut config = Config::new();
        config.user("monitor").ssl_mode(sslmode);
        config
    }

    #[tokio::test]
    async fn a_login_without_the_password_that_the_server_wants_is_denied() {
        let cleartext_password = b"R\0\0\0\x08\0\0\0\x03";
        let error = login(&user(SslMode::Disable), cleartext_password).await;
        assert_eq!(LoginError::of(&error), Some(LoginError::Authentication), "{error}");
        assert_eq!(classify_postgres(&error), ProbeFailure::Denied);
    }

    #[tokio::test]
    async fn a_login_by_an_unknown_method_is_denied() {
        let sasl_by_x = b"R\0\0\0\x0b\0\0\0\x0aX\0\0";
        let error = login(user(SslMode::Disable).password("secret"), sasl_by_x).await;
        assert_eq!(LoginError::of(&error), Some(LoginError::Authentication), "{error}");
        assert_eq!(classify_postgres(&error), ProbeFailure::Denied);
    }

    #[tokio::test]
    async fn a_failed_negotiation_of_tls_is_recognized() {
        let error = login(&user(SslMode::Require), b"N").await;
        assert_eq!(LoginError::of(&error), Some(LoginError::Tls), "{error}");
        assert!(advice(&error).contains("sslmode"));
    }
}
