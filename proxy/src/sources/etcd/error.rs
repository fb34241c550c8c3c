//! What can go wrong with etcd, said so that a person knows what to do.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::super::chain;

/// Why an endpoint of etcd did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// A file with a certificate or a key cannot be read.
    #[error("cannot read {} for TLS with etcd", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The endpoint refused, or gave an error.
    #[error("{endpoint}: cannot {operation}")]
    RequestFailed {
        /// Whom we asked, without credentials.
        endpoint: String,
        /// What we were doing.
        operation: &'static str,
        /// What it said.
        #[source]
        source: EtcdCause,
    },
    /// The endpoint said nothing.
    #[error("{endpoint}: no answer within {limit:?} while trying to {operation}")]
    Timeout {
        /// Whom we asked, without credentials.
        endpoint: String,
        /// What we were doing.
        operation: &'static str,
        /// How long we waited.
        limit: Duration,
    },
    /// The endpoint ended the watch.
    #[error("{endpoint}: the watch was ended: {reason}")]
    WatchEnded {
        /// Whom we asked, without credentials.
        endpoint: String,
        /// Its reason.
        reason: String,
    },
    /// The history that the watch needed is compacted away.
    #[error("{endpoint}: the history up to revision {revision} is compacted")]
    Compacted {
        /// Whom we asked, without credentials.
        endpoint: String,
        /// The oldest revision that is left.
        revision: i64,
    },
    /// The watch did not deliver a change that a read showed.
    #[error("{endpoint}: the watch missed a change after revision {revision}")]
    WatchMissed {
        /// Whom we asked, without credentials.
        endpoint: String,
        /// The last revision that it delivered.
        revision: i64,
    },
    /// The endpoint now belongs to another etcd cluster, or its store was set back.
    #[error("{endpoint}: the store is not the one that was read before")]
    OtherStore {
        /// Whom we asked, without credentials.
        endpoint: String,
    },
    /// An answer had no header.
    #[error("{endpoint}: an answer without a header")]
    NoHeader {
        /// Whom we asked, without credentials.
        endpoint: String,
    },
    /// Nobody takes observations any more: the proxy is stopping.
    #[error("nobody takes the observations of etcd")]
    ReceiverGone,
}

/// What etcd or the way to it said. The client's own error keeps its causes to itself, so they are written out here.
#[derive(Debug)]
pub struct EtcdCause(etcd_client::Error);

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

/// An endpoint's URL as it may be shown: without a user or password.
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
    fn credentials_in_a_url_are_not_shown() {
        assert_eq!(shown("http://root:secret@10.0.0.1:2379"), "http://10.0.0.1:2379");
        assert_eq!(shown("https://10.0.0.1:2379/a@b"), "https://10.0.0.1:2379/a@b");
        assert_eq!(shown("10.0.0.1:2379"), "10.0.0.1:2379");
    }
}
