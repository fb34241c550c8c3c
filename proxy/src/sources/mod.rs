//! Sources of observations: etcd, and probes of the servers.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;

use pg_leader_proxy_core::{MemberName, ProbeUrgency, ServerAddr};

pub mod clock;
pub mod etcd;
pub(crate) mod patroni;
pub mod probe;

/// Which members to probe, and how often. Control publishes it in a `watch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePlan {
    /// Every member and where to ask it.
    pub members: BTreeMap<MemberName, ProbeTarget>,
    /// The urgency.
    pub urgency: ProbeUrgency,
}

/// Where to ask a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// The address that the cluster publishes.
    pub addr: ServerAddr,
    /// Where that led when it was looked up last, if it was.
    pub published: Option<SocketAddr>,
    /// A socket that it has left, and that sessions are still on.
    pub former: Option<SocketAddr>,
}

/// An error and its causes, as one line for the log.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries repeat their cause in their own text.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line.replace('\n', "; ")
}
