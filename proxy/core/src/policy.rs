//! The policy: the choices an operator makes, checked once so that nothing later has to check them again.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Which witnesses there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// The leader key in the DCS, and the servers.
    DcsAndServers,
    /// Only the servers: routing follows the all-members rule at all times.
    ServersOnly,
}

/// What to do once the DCS has been silent for longer than the leader's lease is known to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDcsLoss {
    /// Go on while every known member answers and exactly one, the last holder of the key, is out of recovery.
    /// This is what Patroni's failsafe mode needs.
    AllMembers,
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
pub struct PolicyOptions {
    /// Which witnesses there are.
    pub sources: Sources,
    /// How long before the end of a lease the router stops trusting it. It covers etcd's granularity (0.5 s) and the
    /// drift of two clocks over one lease.
    pub lease_margin: Duration,
    /// How old the confirmed leader's own word may be.
    pub max_probe_age: Duration,
    /// How old the word of any other member may be under the all-members rule, where a rival's silence counts.
    pub max_member_probe_age: Duration,
    /// How often each server is asked when nothing is happening; the limits must leave room for two questions.
    pub probe_interval: Duration,
    /// What to do without the DCS.
    pub on_dcs_loss: OnDcsLoss,
    /// How far behind, in bytes of log, a replica of the read route may be; `None` for any distance.
    pub max_lag_bytes: Option<u64>,
    /// Where readers go when no replica will do.
    pub read_fallback: ReadFallback,
}

impl Default for PolicyOptions {
    fn default() -> Self {
        Self {
            sources: Sources::DcsAndServers,
            lease_margin: Duration::from_secs(2),
            max_probe_age: Duration::from_secs(5),
            max_member_probe_age: Duration::from_secs(2),
            probe_interval: Duration::from_millis(500),
            on_dcs_loss: OnDcsLoss::AllMembers,
            max_lag_bytes: None,
            read_fallback: ReadFallback::Hold,
        }
    }
}

/// Checked terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy(PolicyOptions);

impl Policy {
    /// Checks the terms against each other.
    ///
    /// # Errors
    /// [`PolicyError`] when a limit is too short for two questions, which would fence a healthy leader now and then.
    pub fn new(options: PolicyOptions) -> Result<Self, PolicyError> {
        let least = options.probe_interval * 2;
        for (limit, is) in
            [(AgeLimit::Leader, options.max_probe_age), (AgeLimit::AnyMember, options.max_member_probe_age)]
        {
            if is < least {
                return Err(PolicyError { limit, is, least });
            }
        }
        Ok(Self(options))
    }

    /// The terms that were checked.
    pub const fn options(&self) -> &PolicyOptions {
        &self.0
    }
}

impl Default for Policy {
    /// The default terms, which hold together (a test says so).
    fn default() -> Self {
        Self(PolicyOptions::default())
    }
}

/// A limit on the age of a probe's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgeLimit {
    /// [`PolicyOptions::max_probe_age`].
    Leader,
    /// [`PolicyOptions::max_member_probe_age`].
    AnyMember,
}

impl fmt::Display for AgeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "max_probe_age",
            Self::AnyMember => "max_member_probe_age",
        })
    }
}

/// A limit that leaves no room for two probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Which limit.
    pub limit: AgeLimit,
    /// Its value.
    pub is: Duration,
    /// The least value that leaves room for two probes.
    pub least: Duration,
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
        assert_eq!(Policy::new(PolicyOptions::default()), Ok(Policy::default()));
    }

    #[test]
    fn a_limit_too_short_for_two_questions_is_named() {
        let options =
            PolicyOptions { max_member_probe_age: Duration::from_millis(900), ..PolicyOptions::default() };
        let error = Policy::new(options).unwrap_err();
        assert_eq!(error.limit, AgeLimit::AnyMember);
        assert_eq!(error.to_string(), "max_member_probe_age is 900ms, shorter than two probe intervals (1s)");
    }
}
