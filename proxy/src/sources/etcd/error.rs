//! Errors of the etcd source.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use pg_leader_proxy_core::DcsProblemKind;
use pg_leader_proxy_core::display::HumanDuration;
use tonic::Code;

use super::super::chain;

/// The operation of a login.
pub(super) const LOG_IN: &str = "log in";

/// Why the etcd source failed.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// A file with a certificate or a key cannot be read.
    #[error("cannot read {} for TLS with etcd", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file system of a file with a certificate or a key does not answer.
    #[error("cannot read {file} for TLS with etcd: its file system does not answer")]
    FileHangs {
        /// The file.
        file: String,
    },
    /// A file does not hold a certificate or a key that can be used.
    #[error("{} {what}", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// OpenSSL rejects the settings.
    #[error("cannot set up TLS with etcd")]
    Tls(#[source] openssl::error::ErrorStack),
    /// A request to the endpoint failed.
    #[error("{endpoint}: cannot {operation}")]
    RequestFailed {
        /// The endpoint, without credentials.
        endpoint: String,
        /// What the request was for.
        operation: &'static str,
        /// The cause.
        #[source]
        source: EtcdCause,
    },
    /// The endpoint did not answer.
    #[error("{endpoint}: no answer within {} while trying to {operation}", HumanDuration(*limit))]
    Timeout {
        /// The endpoint, without credentials.
        endpoint: String,
        /// What the request was for.
        operation: &'static str,
        /// The timeout.
        limit: Duration,
    },
    /// The endpoint ended the watch.
    #[error("{endpoint}: the watch was ended: {reason}")]
    WatchEnded {
        /// The endpoint, without credentials.
        endpoint: String,
        /// etcd's reason.
        reason: String,
    },
    /// The revisions that the watch needs are compacted.
    #[error("{endpoint}: the revisions before {revision} are compacted")]
    Compacted {
        /// The endpoint, without credentials.
        endpoint: String,
        /// The oldest revision that is still available.
        revision: i64,
    },
    /// The watch did not deliver a change that a read showed.
    #[error("{endpoint}: the watch missed a change after revision {revision}")]
    WatchMissed {
        /// The endpoint, without credentials.
        endpoint: String,
        /// The last revision that the watch delivered.
        revision: i64,
    },
    /// The endpoint now belongs to another etcd cluster.
    #[error("{endpoint}: the answer is from another etcd cluster than before")]
    OtherStore {
        /// The endpoint, without credentials.
        endpoint: String,
    },
    /// An answer has no header.
    #[error("{endpoint}: an answer without a header")]
    NoHeader {
        /// The endpoint, without credentials.
        endpoint: String,
    },
    /// The receiver of observations is gone: the proxy is shutting down.
    #[error("the receiver of etcd's observations is gone")]
    ReceiverGone,
}

impl EtcdError {
    /// What kind of problem it is, as clients may hear it.
    pub(super) fn kind(&self) -> DcsProblemKind {
        match self {
            Self::File { .. } | Self::FileHangs { .. } | Self::InvalidFile { .. } | Self::Tls(_) => {
                DcsProblemKind::BadFiles
            }
            Self::RequestFailed { operation, source, .. } => source.kind(operation),
            Self::Timeout { .. } => DcsProblemKind::Unreachable,
            Self::WatchEnded { .. }
            | Self::Compacted { .. }
            | Self::WatchMissed { .. }
            | Self::OtherStore { .. }
            | Self::NoHeader { .. }
            | Self::ReceiverGone => DcsProblemKind::Failed,
        }
    }

    /// Whether a login failed because etcd asks for none.
    pub(super) fn is_authentication_disabled(&self) -> bool {
        matches!(
            self,
            Self::RequestFailed { source: EtcdCause(etcd_client::Error::GRpcStatus(status)), .. }
                // etcd's `ErrGRPCAuthNotEnabled`, of which nothing but the text is its own.
                if status.message() == "etcdserver: authentication is not enabled"
        )
    }
}

/// An error of the etcd client, with its causes in its text, because the client's own error does not show them.
#[derive(Debug)]
pub struct EtcdCause(etcd_client::Error);

impl EtcdCause {
    fn kind(&self, operation: &str) -> DcsProblemKind {
        let etcd_client::Error::GRpcStatus(status) = &self.0 else {
            return if connection_failed(&self.0) {
                DcsProblemKind::Unreachable
            } else {
                DcsProblemKind::Failed
            };
        };
        let code = status.code();
        // etcd rejects a wrong password as an invalid argument.
        let rejected =
            operation == LOG_IN && matches!(code, Code::InvalidArgument | Code::FailedPrecondition);
        if rejected || matches!(code, Code::Unauthenticated | Code::PermissionDenied) {
            DcsProblemKind::Denied
        } else if matches!(code, Code::Unavailable | Code::DeadlineExceeded) || status.source().is_some() {
            // A status that has a cause is not from etcd: the connection failed.
            DcsProblemKind::Unreachable
        } else {
            DcsProblemKind::Failed
        }
    }
}

const fn connection_failed(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::TransportError(_) | etcd_client::Error::IoError(_))
}

impl From<etcd_client::Error> for EtcdCause {
    fn from(error: etcd_client::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for EtcdCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let etcd_client::Error::GRpcStatus(status) = &self.0 {
            f.write_str(status.message())?;
            if let Some(source) = status.source() {
                write!(f, ": {}", chain(source))?;
            }
            Ok(())
        } else if let etcd_client::Error::TransportError(error) = &self.0 {
            f.write_str(&chain(error))
        } else {
            self.0.fmt(f)
        }
    }
}

impl Error for EtcdCause {}

/// An endpoint's URL without user and password.
pub(super) fn shown(endpoint: &str) -> String {
    let (scheme, rest) = endpoint.split_once("://").map_or((None, endpoint), |(s, rest)| (Some(s), rest));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match scheme {
        Some(scheme) => format!("{scheme}://{host}{path}"),
        None => format!("{host}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_a_kind_that_tells_no_more_than_anybody_may_hear() {
        let failed = |operation, status: tonic::Status| {
            let source = etcd_client::Error::GRpcStatus(status).into();
            EtcdError::RequestFailed { endpoint: String::new(), operation, source }.kind()
        };
        let wrong_password = || tonic::Status::invalid_argument("etcdserver: authentication failed");
        assert_eq!(failed(LOG_IN, wrong_password()), DcsProblemKind::Denied);
        assert_eq!(failed("read", wrong_password()), DcsProblemKind::Failed);
        assert_eq!(failed("read", tonic::Status::permission_denied("")), DcsProblemKind::Denied);
        assert_eq!(failed("connect", tonic::Status::unavailable("no leader")), DcsProblemKind::Unreachable);
        let broken =
            tonic::Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
        assert_eq!(failed("read", broken), DcsProblemKind::Unreachable);
        let hangs = EtcdError::FileHangs { file: "/etc/etcd/key.pem".to_owned() };
        assert_eq!(hangs.kind(), DcsProblemKind::BadFiles);
    }

    #[test]
    fn credentials_in_a_url_are_not_shown() {
        assert_eq!(shown("http://root:secret@10.0.0.1:2379"), "http://10.0.0.1:2379");
        assert_eq!(shown("https://10.0.0.1:2379/a@b"), "https://10.0.0.1:2379/a@b");
        assert_eq!(shown("10.0.0.1:2379"), "10.0.0.1:2379");
    }
}
