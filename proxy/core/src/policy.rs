//! The policy: the operator's choices, checked once so that no later code has to.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::display::HumanDuration;

/// Where the evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sources {
    /// The leader key in the DCS, and the servers.
    DcsAndServers,
    /// The servers alone: routing always follows the all-members rule.
    ServersOnly,
}

/// What to do when the DCS is silent and the last confirmed lease has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnDcsLoss {
    /// What Patroni itself does. In failsafe mode its primary goes on while every member of the `failsafe` key answers;
    /// in maintenance mode (pause) it goes on, so every member must answer; otherwise Patroni demotes it, so nothing is
    /// forwarded.
    Auto,
    /// Go on while every member that was seen within the last hour answers and exactly one, the last holder of the key,
    /// is out of recovery.
    AllMembers,
    /// Forward nothing until the DCS answers again.
    Fence,
}

/// Where sessions of the read route go when no replica takes new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadFallback {
    /// Nowhere: they wait for a replica.
    Hold,
    /// To the confirmed leader.
    Leader,
}

/// The options of a [`Policy`], not yet checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyOptions {
    /// Where the evidence comes from.
    pub sources: Sources,
    /// How long before its end a lease is no longer trusted. The margin covers etcd's granularity of 0.5 s and the drift
    /// between two clocks over one lease.
    pub lease_margin: Duration,
    /// How old the leader's own reply may be for new sessions to go there. Open ones go on as long as its lease is
    /// confirmed.
    pub max_probe_age: Duration,
    /// How old the reply of any other member may be under the all-members rule, where its silence counts; and for how
    /// long sessions go on there when the leader key or the list of members has just changed.
    pub max_member_probe_age: Duration,
    /// For how long sessions are kept, without a byte passing, after the wall clock was stepped: until then something
    /// must have been confirmed anew.
    pub max_suspension: Duration,
    /// How often each server is asked when nothing is happening; the limits must leave room for two questions.
    pub probe_interval: Duration,
    /// What to do when the DCS is silent.
    pub on_dcs_loss: OnDcsLoss,
    /// The maximum lag of a replica that takes new read sessions, in bytes of WAL; `None` for no limit.
    pub max_lag_bytes: Option<u64>,
    /// Where sessions of the read route go when no replica takes new ones.
    pub read_fallback: ReadFallback,
}

impl Default for PolicyOptions {
    fn default() -> Self {
        Self {
            sources: Sources::DcsAndServers,
            lease_margin: Duration::from_secs(2),
            max_probe_age: Duration::from_secs(5),
            max_member_probe_age: Duration::from_secs(2),
            max_suspension: Duration::from_secs(4),
            probe_interval: Duration::from_millis(500),
            on_dcs_loss: OnDcsLoss::Auto,
            max_lag_bytes: None,
            read_fallback: ReadFallback::Hold,
        }
    }
}

/// Checked options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy(PolicyOptions);

impl Policy {
    /// Checks the options against each other.
    ///
    /// # Errors
    /// [`PolicyError`] when a maximum age is shorter than two probe intervals: a healthy leader would be fenced now and
    /// then.
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

    /// The checked options.
    pub const fn options(&self) -> &PolicyOptions {
        &self.0
    }
}

impl Default for Policy {
    /// The default options; a test shows that they pass the checks.
    fn default() -> Self {
        Self(PolicyOptions::default())
    }
}

/// A maximum age of a reply.
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

/// A maximum age that is shorter than two probe intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The option.
    pub limit: AgeLimit,
    /// Its value.
    pub is: Duration,
    /// Two probe intervals: the least allowed value.
    pub least: Duration,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (is, least) = (HumanDuration(self.is), HumanDuration(self.least));
        write!(f, "{} is {is}, shorter than two probe intervals ({least})", self.limit)
    }
}

impl Error for PolicyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_options_pass_the_checks() {
        assert_eq!(Policy::new(PolicyOptions::default()), Ok(Policy::default()));
    }

    #[test]
    fn a_maximum_age_shorter_than_two_probe_intervals_is_named() {
        let options =
            PolicyOptions { max_member_probe_age: Duration::from_millis(900), ..PolicyOptions::default() };
        let error = Policy::new(options).unwrap_err();
        assert_eq!(error.limit, AgeLimit::AnyMember);
        assert_eq!(
            error.to_string(),
            "max_member_probe_age is 900 ms, shorter than two probe intervals (1 s)"
        );
    }
}
