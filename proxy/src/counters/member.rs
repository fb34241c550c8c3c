//! Counters of one member: its probes, the sessions that use it, the changes of leader that it won.

use std::sync::Arc;

use pg_leader_proxy_core::{ProbeConnection, ProbeFailure};

use super::Counter;
use crate::route::RouteKind;
use crate::timing::Timing;

/// The counters of one member.
#[derive(Debug)]
pub struct MemberCounters {
    /// How long new sessions waited for a leader at each change of leader after which this member led.
    pub write_downtime: Timing,
    probes: [ProbeCounters; ProbedOver::ALL.len()],
    routes: [Arc<MemberRouteCounters>; RouteKind::ALL.len()],
}

impl Default for MemberCounters {
    fn default() -> Self {
        let write_downtime = Timing::of_leader_changes();
        Self { write_downtime, probes: Default::default(), routes: Default::default() }
    }
}

impl MemberCounters {
    /// The probes over one of the two connections.
    pub const fn probes(&self, over: ProbedOver) -> &ProbeCounters {
        &self.probes[over as usize]
    }

    /// The sessions of one route that use this member.
    pub const fn route(&self, route: RouteKind) -> &Arc<MemberRouteCounters> {
        &self.routes[route as usize]
    }

    /// Records a probe of this member.
    pub fn record_probe<T>(&self, connection: ProbeConnection, outcome: &Result<T, ProbeFailure>) {
        let counters = self.probes(connection.into());
        counters.sent.increment();
        if let Err(failure) = outcome {
            counters.failures(*failure).increment();
        }
    }
}

/// The connection that a probe goes over: a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbedOver {
    /// The one that is kept.
    Persistent,
    /// One that is made for the probe.
    New,
}

impl ProbedOver {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Persistent, Self::New];

    /// The name in metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Persistent => "persistent",
            Self::New => "new",
        }
    }
}

impl From<ProbeConnection> for ProbedOver {
    fn from(connection: ProbeConnection) -> Self {
        match connection {
            ProbeConnection::Persistent { .. } => Self::Persistent,
            ProbeConnection::New => Self::New,
        }
    }
}

/// The counters of a member's probes over one of the two connections.
#[derive(Debug, Default)]
pub struct ProbeCounters {
    /// Probes, whatever came of them.
    pub sent: Counter,
    failures: [Counter; ProbeFailure::ALL.len()],
}

impl ProbeCounters {
    /// Probes that failed in this way.
    pub const fn failures(&self, failure: ProbeFailure) -> &Counter {
        &self.failures[failure as usize]
    }
}

/// The counters of the sessions of one route that use one member.
#[derive(Debug)]
pub struct MemberRouteCounters {
    /// Open sessions now, including those that are still connecting.
    pub open: Counter,
    /// Failed attempts to connect.
    pub connect_failures: Counter,
    /// How long the server took from the attempt to connect to its first answer.
    pub connect_time: Timing,
    /// How long a login took from the server's first answer until it was ready for queries.
    pub login_time: Timing,
}

impl Default for MemberRouteCounters {
    fn default() -> Self {
        Self {
            open: Counter::default(),
            connect_failures: Counter::default(),
            connect_time: Timing::of_connections(),
            login_time: Timing::of_connections(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_counted_by_connection_and_failure() {
        let counters = MemberCounters::default();
        counters.record_probe(ProbeConnection::New, &Ok(()));
        for failure in ProbeFailure::ALL {
            counters.record_probe::<()>(ProbeConnection::New, &Err(failure));
        }
        let new = counters.probes(ProbedOver::New);
        assert_eq!(new.sent.value(), 1 + ProbeFailure::ALL.len() as u64);
        assert!(ProbeFailure::ALL.iter().all(|failure| new.failures(*failure).value() == 1));
        assert_eq!(counters.probes(ProbedOver::Persistent).sent.value(), 0);
    }
}
