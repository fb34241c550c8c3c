//! MemberUrgency: how soon to probe a member again.

use std::time::Duration;

use pg_leader_proxy_core::{MemberName, ProbeUrgency};

use crate::config;

/// The shortest pauses between two attempts to connect, which cost a server much more than a query.
const RECONNECT_BURST: Duration = Duration::from_millis(20);
const RECONNECT_WATCHFUL: Duration = Duration::from_millis(100);

/// How urgently a member must be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MemberUrgency {
    Normal,
    Elevated,
    Burst,
}

impl MemberUrgency {
    pub(super) fn of(urgency: &ProbeUrgency, member: &MemberName) -> Self {
        match urgency {
            ProbeUrgency::Normal => Self::Normal,
            ProbeUrgency::Burst(wanted) if wanted == member => Self::Burst,
            ProbeUrgency::Elevated | ProbeUrgency::Burst(_) => Self::Elevated,
        }
    }

    /// How long after a query the next one is due; in a burst, how long after its reply.
    pub(super) fn pause(self, config: &config::Probe) -> Duration {
        match self {
            Self::Normal => config.interval,
            Self::Elevated => (config.interval / 10).max(config.fast_interval),
            Self::Burst => config.fast_interval,
        }
    }

    /// How long after an attempt to connect the next one is due.
    pub(super) fn reconnect_pause(self, config: &config::Probe) -> Duration {
        let floor = match self {
            Self::Normal => Duration::ZERO,
            Self::Elevated => RECONNECT_WATCHFUL,
            Self::Burst => RECONNECT_BURST,
        };
        self.pause(config).max(floor)
    }
}

/// The shortest pause between two attempts to connect in any case, even if every connection breaks.
pub(super) const SHORTEST_RECONNECT: Duration = RECONNECT_BURST;
