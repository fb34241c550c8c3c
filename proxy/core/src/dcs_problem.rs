//! What keeps the DCS from telling about the cluster: in full for operators, by its kind for clients.

use std::fmt;

/// What keeps the DCS from telling about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DcsProblem {
    /// Its kind, which anybody may hear.
    pub kind: DcsProblemKind,
    /// All that is known of it, with addresses, paths and names that are the operator's business.
    pub text: String,
}

/// The kinds of [`DcsProblem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DcsProblemKind {
    /// No connection to it, or no answer.
    Unreachable,
    /// It refuses the proxy's user, or what that user asks.
    Denied,
    /// The proxy's certificates or keys for it cannot be used.
    BadFiles,
    /// It answers with an error.
    Failed,
    /// It has no keys of the cluster.
    NoKeys,
}

impl DcsProblemKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Unreachable, Self::Denied, Self::BadFiles, Self::Failed, Self::NoKeys];
}

impl fmt::Display for DcsProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "etcd cannot be reached or does not answer",
            Self::Denied => "etcd refuses the proxy's login",
            Self::BadFiles => "the proxy's certificates for etcd cannot be used",
            Self::Failed => "etcd answers with an error",
            Self::NoKeys => "etcd has no keys of this cluster",
        })
    }
}

impl fmt::Display for DcsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
