//! Why a server gave no word: for people as an error, for the router as one of seven failures.

use std::error::Error;
use std::io;
use std::time::Duration;

use pg_leader_proxy_core::{ProbeFailure, ServerAddr};
use tokio_postgres::error::{DbError, Severity, SqlState};

/// Why a server gave no word.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is no authority to verify certificates with.
    #[error("no certificate of an authority in {place}")]
    NoCaCertificate {
        /// Where it was looked for.
        place: String,
    },
    /// rustls refuses the settings.
    #[error("cannot set up TLS for probes")]
    Tls(#[source] rustls::Error),
    /// The name server does not know the host, or does not answer.
    #[error("cannot find the address of {addr}")]
    Unresolved {
        /// Which server.
        addr: ServerAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No TCP connection came about.
    #[error("cannot reach {addr}")]
    Unreachable {
        /// Which server.
        addr: ServerAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server was silent for too long.
    #[error("no answer from {addr} within {limit:?} while trying to {operation}")]
    Timeout {
        /// Which server.
        addr: ServerAddr,
        /// What we were doing.
        operation: &'static str,
        /// How long we waited.
        limit: Duration,
    },
    /// The server or the library ended the attempt to log in.
    #[error("cannot log in to {addr}: {}", advice(source))]
    Login {
        /// Which server.
        addr: ServerAddr,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server answered the question with an error, or hung up.
    #[error("cannot ask {addr} whether it is in recovery")]
    Query {
        /// Which server.
        addr: ServerAddr,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The connection is gone and the server did not say why.
    #[error("{addr} closed the connection")]
    Closed {
        /// Which server.
        addr: ServerAddr,
    },
    /// The answer is not what PostgreSQL answers.
    #[error("{addr} gave an answer that makes no sense: {what}")]
    InvalidReply {
        /// Which server.
        addr: ServerAddr,
        /// What is wrong with it.
        what: String,
    },
    /// Nobody takes observations any more: the proxy is stopping.
    #[error("nobody takes the observations of the servers")]
    ReceiverGone,
}

impl ProbeError {
    /// What this means to the router.
    ///
    /// "Refused" contradicts an earlier word, so it is kept for proof that nobody serves there: a refused, reset or
    /// closed connection. An unreachable host or a name that cannot be looked up proves nothing about the server,
    /// which may be alive behind a broken network, and counts like silence.
    pub fn failure(&self) -> ProbeFailure {
        match self {
            Self::Timeout { .. } | Self::Unresolved { .. } => ProbeFailure::TimedOut,
            Self::Unreachable { source, .. } => classify_io(source),
            Self::Closed { .. } => ProbeFailure::Refused,
            Self::Login { source, .. } | Self::Query { source, .. } => classify_postgres(source),
            Self::NoCaCertificate { .. } | Self::Tls(_) | Self::InvalidReply { .. } | Self::ReceiverGone => {
                ProbeFailure::Failed
            }
        }
    }

    /// Whether the connection can be asked again: the server refused one statement, not the session.
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
    let gone = [
        Kind::ConnectionRefused,
        Kind::ConnectionReset,
        Kind::ConnectionAborted,
        Kind::BrokenPipe,
        Kind::NotConnected,
        Kind::UnexpectedEof,
    ];
    let silent = [Kind::TimedOut, Kind::HostUnreachable, Kind::NetworkUnreachable];
    if gone.contains(&error.kind()) {
        ProbeFailure::Refused
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
        return ProbeFailure::Refused;
    }
    if is_denial(error) {
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
    if code == &SqlState::ADMIN_SHUTDOWN {
        ProbeFailure::ShuttingDown
    } else if code == &SqlState::CANNOT_CONNECT_NOW {
        // One SQLSTATE for starting up, recovering and shutting down; only the text, which may be translated, tells
        // them apart. Both contradict an earlier word, so a wrong guess changes no decision.
        if error.message().contains("shutting down") {
            ProbeFailure::ShuttingDown
        } else {
            ProbeFailure::StartingUp
        }
    } else if code == &SqlState::CRASH_SHUTDOWN {
        // Another backend crashed: the server restarts in place and recovers.
        ProbeFailure::StartingUp
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

/// Class 28, an unknown database, or a database that the user may not connect to.
fn is_denied(code: &SqlState) -> bool {
    code.code().starts_with("28")
        || code == &SqlState::UNDEFINED_DATABASE
        || code == &SqlState::INSUFFICIENT_PRIVILEGE
}

/// Whether the library gave up the login by itself: a password is missing, or SCRAM failed.
fn is_denial(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text == "authentication error" || text == "invalid configuration"
}

/// What a person can do about a failed login.
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
        Some(_) => "the server refused",
        None if error.to_string() == "error performing TLS handshake" => {
            "TLS failed: compare sslmode and ca_file with the server's settings"
        }
        None if is_denial(error) => "the server wants a password, or the one given is wrong",
        None => "the connection broke",
    }
}
