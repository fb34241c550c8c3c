//! The policy: the choices an operator makes, checked once so that nothing later has to check them again.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Which witnesses there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The leader key in the DCS, and the servers.
    DcsAndServers,
    /// Only the servers: routing follows the evidence rule at all times.
    Servers,
}

/// What to do once the DCS has been silent for longer than the leader's lease is known to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDcsLoss {
    /// Go on while every known member answers and exactly one, the last holder of the key, is out of recovery.
    /// This is what Patroni's failsafe mode needs.
    Evidence,
    /// Forward nothing until the DCS answers again.
    Fence,
}

/// Where readers go when no replica will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFallback {
    /// Nowhere: they wait for a replica.
    Hold,
    /// To the confirmed leader.
    Leader,
}

/// The numbers and choices of a [`Policy`], not yet checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Which witnesses there are.
    pub witness: Witness,
    /// How long before the end of a lease the router stops trusting it. It covers etcd's granularity (0.5 s) and the
    /// drift of two clocks over one lease.
    pub lease_margin: Duration,
    /// How old the confirmed leader's own word may be.
    pub evidence_limit: Duration,
    /// How old the word of any other member may be under the evidence rule, where a rival's silence counts.
    pub rival_limit: Duration,
    /// How often each server is asked when nothing is happening; the limits must leave room for two questions.
    pub probe_interval: Duration,
    /// What to do without the DCS.
    pub on_dcs_loss: OnDcsLoss,
    /// How far behind, in bytes of log, a replica of the read route may be; `None` for any distance.
    pub max_lag_bytes: Option<u64>,
    /// Where readers go when no replica will do.
    pub read_fallback: ReadFallback,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            witness: Witness::DcsAndServers,
            lease_margin: Duration::from_secs(2),
            evidence_limit: Duration::from_secs(5),
            rival_limit: Duration::from_secs(2),
            probe_interval: Duration::from_millis(500),
            on_dcs_loss: OnDcsLoss::Evidence,
            max_lag_bytes: None,
            read_fallback: ReadFallback::Hold,
        }
    }
}

/// Checked terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy(Terms);

impl Policy {
    /// Checks the terms against each other.
    ///
    /// # Errors
    /// [`PolicyError`] when a limit is too short for two questions, which would fence a healthy leader now and then.
    pub fn new(terms: Terms) -> Result<Self, PolicyError> {
        let least = terms.probe_interval * 2;
        if terms.evidence_limit < least {
            return Err(PolicyError { limit: "evidence_limit", is: terms.evidence_limit, least });
        }
        if terms.rival_limit < least {
            return Err(PolicyError { limit: "rival_limit", is: terms.rival_limit, least });
        }
        Ok(Self(terms))
    }

    /// The terms that were checked.
    pub const fn terms(&self) -> &Terms {
        &self.0
    }
}

impl Default for Policy {
    /// The default terms, which hold together (a test says so).
    fn default() -> Self {
        Self(Terms::default())
    }
}

/// A limit that leaves no room for two probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyError {
    limit: &'static str,
    is: Duration,
    least: Duration,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?}, shorter than two probe intervals ({:?})", self.limit, self.is, self.least)
    }
}

impl Error for PolicyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_terms_hold_together() {
        assert_eq!(Policy::new(Terms::default()), Ok(Policy::default()));
    }

    #[test]
    fn a_limit_too_short_for_two_questions_is_named() {
        let terms = Terms { rival_limit: Duration::from_millis(900), ..Terms::default() };
        let error = Policy::new(terms).unwrap_err().to_string();
        assert_eq!(error, "rival_limit is 900ms, shorter than two probe intervals (1s)");
    }
}
