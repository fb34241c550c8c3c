//! Sources: where observations come from.

use std::collections::BTreeMap;

use pg_leader_proxy_core::{Attention, MemberName, ServerAddr};

/// Whom the probes must ask, and how urgently. The control worker publishes it in a `watch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Every member and where it is.
    pub members: BTreeMap<MemberName, ServerAddr>,
    /// The urgency.
    pub attention: Attention,
}
