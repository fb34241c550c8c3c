//! Counters of one route, and why clients are rejected and sessions terminated.

use pg_leader_proxy_core::SessionEnd;

use super::Counter;
use crate::timing::Timing;

/// Why a client was rejected: a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionKind {
    /// There was no server within the hold timeout.
    NoServer,
    /// The queue of held clients is full.
    TooManyHeld,
    /// The limit of open sessions is reached.
    TooManySessions,
    /// The first packet is invalid.
    BadPacket,
    /// The first packet did not arrive in time.
    Silent,
    /// The proxy is shutting down.
    Stopping,
    /// An operator ended the session while it waited.
    Terminated,
    /// The client's address is in none of the allowed networks.
    NetworkNotAllowed,
    /// The client's address has as many sessions as it may have.
    TooManySessionsOfAddress,
    /// The client's address has opened as many connections within a minute as it may.
    TooManyConnectionsOfAddress,
    /// A balancer's connection begins without a valid PROXY protocol header.
    BadProxyHeader,
}

impl RejectionKind {
    /// All kinds, for metrics with one series for each.
    pub const ALL: [Self; 11] = [
        Self::NoServer,
        Self::TooManyHeld,
        Self::TooManySessions,
        Self::BadPacket,
        Self::Silent,
        Self::Stopping,
        Self::Terminated,
        Self::NetworkNotAllowed,
        Self::TooManySessionsOfAddress,
        Self::TooManyConnectionsOfAddress,
        Self::BadProxyHeader,
    ];

    /// The name in logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoServer => "no_server",
            Self::TooManyHeld => "too_many_held",
            Self::TooManySessions => "too_many_sessions",
            Self::BadPacket => "bad_packet",
            Self::Silent => "silent",
            Self::Stopping => "stopping",
            Self::Terminated => "terminated",
            Self::NetworkNotAllowed => "network_not_allowed",
            Self::TooManySessionsOfAddress => "too_many_sessions_of_address",
            Self::TooManyConnectionsOfAddress => "too_many_connections_of_address",
            Self::BadProxyHeader => "bad_proxy_header",
        }
    }
}

/// Why a session was terminated: a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminationKind {
    /// By the proxy, for what became of its server.
    Server(SessionEnd),
    /// By its server, when that stopped being the leader.
    EndedByServer,
    /// By the proxy, which is shutting down.
    Stopping,
    /// By the proxy, because an operator said so.
    Operator,
}

impl TerminationKind {
    /// How many there are. Not `ALL.len()`: in an optimised build the compiler finds a cycle where the length of a field of
    /// [`RouteCounters`] calls a function.
    const COUNT: usize = SessionEnd::ALL.len() + 3;

    /// All kinds, for metrics with one series for each.
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::EndedByServer; Self::COUNT];
        let mut index = 0;
        while index < SessionEnd::ALL.len() {
            all[index] = Self::Server(SessionEnd::ALL[index]);
            index += 1;
        }
        all[Self::Stopping.index()] = Self::Stopping;
        all[Self::Operator.index()] = Self::Operator;
        all
    };

    /// The name in metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Server(end) => end.code(),
            Self::EndedByServer => "ended_by_server",
            Self::Stopping => "stopping",
            Self::Operator => "operator",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Server(end) => end as usize,
            Self::EndedByServer => SessionEnd::ALL.len(),
            Self::Stopping => SessionEnd::ALL.len() + 1,
            Self::Operator => SessionEnd::ALL.len() + 2,
        }
    }
}

/// The counters of one route.
#[derive(Debug)]
pub struct RouteCounters {
    /// Client connections accepted.
    pub accepted: Counter,
    /// Open sessions now, including held clients.
    pub open: Counter,
    /// Held clients now: those that wait for a server.
    pub held: Counter,
    /// Clients that had to wait for a server.
    pub waited: Counter,
    /// Sessions connected to a server.
    pub connected: Counter,
    /// Failed attempts to connect to a server.
    pub connect_failures: Counter,
    /// Cancel requests forwarded.
    pub cancels: Counter,
    /// Addresses that the route listens on now.
    pub listening: Counter,
    /// How long clients waited that had to wait.
    pub held_time: Timing,
    rejections: [Counter; RejectionKind::ALL.len()],
    terminations: [Counter; TerminationKind::COUNT],
}

impl Default for RouteCounters {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            open: Counter::default(),
            held: Counter::default(),
            waited: Counter::default(),
            connected: Counter::default(),
            connect_failures: Counter::default(),
            cancels: Counter::default(),
            listening: Counter::default(),
            held_time: Timing::of_leader_changes(),
            rejections: Default::default(),
            terminations: Default::default(),
        }
    }
}

impl RouteCounters {
    /// Clients rejected for `kind`.
    pub const fn rejections(&self, kind: RejectionKind) -> &Counter {
        &self.rejections[kind as usize]
    }

    /// Sessions terminated for `kind`.
    pub const fn terminations(&self, kind: TerminationKind) -> &Counter {
        &self.terminations[kind.index()]
    }

    /// Sessions terminated, for whatever reason.
    pub fn terminated(&self) -> u64 {
        self.terminations.iter().map(Counter::value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_counter_and_a_code_of_its_own() {
        let counters = RouteCounters::default();
        for (index, kind) in TerminationKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
            counters.terminations(kind).increment();
        }
        let codes: std::collections::BTreeSet<&str> = TerminationKind::ALL.map(TerminationKind::code).into();
        assert_eq!(codes.len(), TerminationKind::ALL.len());
        assert_eq!(counters.terminated(), TerminationKind::ALL.len() as u64);
    }
}
