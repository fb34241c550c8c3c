//! Hold terms: what bounds the wait of the clients of the write route, beside the configuration.

use std::time::Duration;

use pg_leader_proxy_core::{ClusterConfig, Moment};

/// What bounds the wait of the clients of the write route, beside the configuration.
///
/// It is published apart from the [targets](super::Targets): every held client watches it, and a new leader, whom they all
/// wait for, must not wake them all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldTerms {
    /// The length of the leader's lease: `ttl` in Patroni's configuration.
    pub ttl: Duration,
    /// Since when the route waits for a reason that lasts until somebody mends or changes something; `None` if it does not.
    pub lasting_since: Option<Moment>,
}

impl Default for HoldTerms {
    fn default() -> Self {
        Self { ttl: ClusterConfig::default().ttl, lasting_since: None }
    }
}
