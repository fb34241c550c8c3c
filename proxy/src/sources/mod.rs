//! Sources: where observations come from.

use std::collections::BTreeMap;
use std::error::Error;

use pg_leader_proxy_core::{MemberName, ProbeUrgency, ServerAddr};

pub mod etcd;
mod patroni;
pub mod probe;

/// Whom the probes must ask, and how urgently. The control worker publishes it in a `watch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePlan {
    /// Every member and where it is.
    pub members: BTreeMap<MemberName, ServerAddr>,
    /// The urgency.
    pub attention: ProbeUrgency,
}

/// An error and its causes as one line for the log.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries repeat their cause in their own text; saying it once is enough.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line.replace('\n', "; ")
}
