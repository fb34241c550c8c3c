//! Sessions: one client connection each, from its first packet to the end of its relay.

mod accepted;
pub(crate) mod boundary;
mod cancel;
mod connect_failure;
mod direction;
pub(crate) mod first_answer;
mod first_packet;
mod hold;
mod identity;
mod log;
mod login;
mod proxy_header;
mod read_buffer;
mod record;
mod rejection;
mod rejection_log;
mod relay;
mod scratch;
mod snapshot;
mod startup;
mod termination;

use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::{MemberName, Moment};
use tokio::sync::{mpsc, watch};

use self::accepted::AcceptedClient;
pub use self::identity::Identity;
pub use self::record::SessionId;
pub(crate) use self::record::StartupProgress;
pub(crate) use self::relay::{End, Progress, Relay, Side};
pub(crate) use self::scratch::Scratch;
pub use self::snapshot::{SessionSelector, SessionSnapshot, SessionState};
pub(crate) use self::startup::StartupContext;
#[cfg(test)]
#[cfg(feature = "races")]
use crate::admission::Target;
use crate::admission::{Access, ClientAddresses, Gate, HoldTerms, SessionGuard, Targets};
use crate::clock;
use crate::counters::{Counters, TerminationKind};
use crate::net::SocketOptions;
use crate::route::RouteKind;

/// How many clients there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// How many sessions there may be at once, over both routes.
    pub sessions: usize,
    /// How many clients beyond them may wait for the error that says so. Further ones are reset without one.
    pub rejected_at_once: usize,
}

/// How much longer than the leader's lease a client of the write route waits by default: after the death of a leader its
/// key expires with the lease, and then another member is promoted.
pub const HOLD_BEYOND_TTL: Duration = Duration::from_secs(15);

/// The settings of sessions. A change applies to the clients that are accepted afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// How many clients there may be.
    pub limits: ClientLimits,
    /// Who may connect; `None` for everybody, as often as they like.
    pub access: Option<Arc<Access>>,
    /// How long a client may take to send its first packet.
    pub startup_timeout: Duration,
    /// How long a server may take to accept a connection, and how long others wait for it to answer the first packet.
    pub connect_timeout: Duration,
    /// How long a client of the write route waits for a server; `None` for [`HOLD_BEYOND_TTL`] more than Patroni's `ttl`.
    pub write_hold_timeout: Option<Duration>,
    /// How long a client of the read route waits for a server.
    pub read_hold_timeout: Duration,
    /// The TCP options of clients and servers.
    pub socket: SocketOptions,
    /// Whether each session's end is logged.
    pub log_sessions: bool,
}

impl SessionSettings {
    /// `ttl` is the length of the leader's lease.
    pub(crate) fn hold_timeout(&self, route: RouteKind, ttl: Duration) -> Duration {
        match route {
            RouteKind::Write => self.write_hold_timeout.unwrap_or(ttl + HOLD_BEYOND_TTL),
            RouteKind::Read => self.read_hold_timeout,
        }
    }
}

/// What all sessions share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The targets of sessions.
    pub targets: watch::Receiver<Arc<Targets>>,
    /// What bounds the wait of held clients.
    pub hold_terms: watch::Receiver<HoldTerms>,
    /// The present settings.
    pub settings: watch::Receiver<SessionSettings>,
    /// Where clients of the write route wait.
    pub write_gate: Gate,
    /// Where clients of the read route wait.
    pub read_gate: Gate,
    /// The client addresses that are counted.
    pub addresses: Arc<ClientAddresses>,
    /// The counters.
    pub counters: Arc<Counters>,
    /// Asks the probes to check a member at once, because a connection to it broke.
    pub recheck: mpsc::Sender<MemberName>,
}

impl Shared {
    /// Asks the probes to check a member that may have failed.
    fn recheck(&self, member: &MemberName) {
        // If the channel is full, the probes already have enough to do.
        let _ = self.recheck.try_send(member.clone());
    }
}

/// A client, its server, and the relay between them.
pub(crate) struct Session {
    accepted: AcceptedClient,
    target: SessionGuard,
    pub(crate) relay: Relay,
}

impl Session {
    /// A session between these sockets, whose client has settled.
    #[cfg(test)]
    #[cfg(feature = "races")]
    pub(crate) fn in_model(
        shared: Arc<Shared>,
        (target, guard): (Target, SessionGuard),
        sockets: [std::net::TcpStream; 2],
    ) -> Self {
        let (now, counters) = (clock::now(), Arc::clone(target.sessions.counters()));
        let (id, identity) = (SessionId(1), None);
        let record = Box::new(record::SessionRecord {
            id,
            accepted_at: now,
            waited_ms: 0,
            first_byte_ms: 0,
            identity,
        });
        let login = login::Login::new(None, std::time::Instant::now(), (counters, None));
        let streams = (boundary::Boundary::messages(), [Vec::new(), Vec::new()]);
        let accepted = AcceptedClient::new(shared, RouteKind::Write, target.socket);
        Self { accepted, target: guard, relay: Relay::new(sockets, target.grant, streams, (record, login)) }
    }

    /// The route that the client came on.
    pub(crate) const fn route(&self) -> RouteKind {
        self.accepted.route
    }

    /// Counts the session as connected.
    pub(crate) fn begin(&self) {
        self.accepted.counts().connected.increment();
        if let Some(counters) = &self.target.counters {
            counters.connected.increment();
        }
    }

    /// The session as it is now.
    pub(crate) fn snapshot(&self, now: Moment) -> SessionSnapshot {
        let Self { accepted, target, relay } = self;
        let [bytes_to_server, bytes_to_client] = relay.bytes_passed();
        let record = &relay.record;
        SessionSnapshot {
            id: record.id,
            route: accepted.route,
            client: accepted.peer,
            state: SessionState::Relaying,
            member: Some(target.member.clone()),
            server_port: relay.server_port(),
            identity: record.identity.clone(),
            age: now.since(record.accepted_at),
            idle: relay.active_at().map(|at| now.since(at)),
            waited: Duration::from_millis(record.waited_ms.into()),
            bytes_to_server,
            bytes_to_client,
        }
    }

    /// Whether this is a session that `selector` means.
    pub(crate) fn is(&self, selector: &SessionSelector) -> bool {
        let record = &self.relay.record;
        selector.means(record.id, Some(&self.target.member), record.identity.as_ref())
    }

    /// Whether the client's user is known.
    pub(crate) const fn has_user(&self) -> bool {
        self.relay.record.identity.is_some()
    }

    /// Closes both connections and counts how the session ended. If its server ended it, that server is probed at once.
    pub(crate) fn end(self, end: &End) {
        log::relayed(&self, end);
        let Self { accepted, target, relay } = self;
        let counts = accepted.counts();
        match end {
            End::Terminated => {
                let kind = termination::kind(relay.grant(), accepted.route, &target.member);
                counts.terminations(kind).increment();
                if let Some(counters) = &target.counters {
                    counters.record_terminated();
                    relay.last_byte_at().into_iter().for_each(|at| counters.record_last_byte(at));
                }
                relay.terminate(|grant| termination::error(grant, accepted.route, &target.member));
            }
            End::TerminatedByOperator => {
                counts.terminations(TerminationKind::Operator).increment();
                relay.terminate(|_| termination::operator_error());
            }
            End::Finished | End::ServerFailed(_) | End::ClientFailed(_) if relay.server_ended(end) => {
                if let Some(counters) = &target.counters {
                    let terminated = counters.record_lost(clock::now());
                    counts.terminations(TerminationKind::EndedByServer).add(terminated);
                }
                accepted.shared.recheck(&target.member);
            }
            End::Finished | End::ServerFailed(_) | End::ClientFailed(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_wait_for_longer_than_the_lease_unless_the_configuration_says_how_long() {
        let seconds = Duration::from_secs;
        let mut settings = SessionSettings {
            limits: ClientLimits { sessions: 1, rejected_at_once: 1 },
            access: None,
            startup_timeout: seconds(1),
            connect_timeout: seconds(1),
            write_hold_timeout: None,
            read_hold_timeout: seconds(7),
            socket: SocketOptions { keepalive: seconds(9), user_timeout: seconds(20) },
            log_sessions: true,
        };
        assert_eq!(settings.hold_timeout(RouteKind::Write, seconds(30)), seconds(45));
        assert_eq!(settings.hold_timeout(RouteKind::Write, seconds(60)), seconds(75));
        assert_eq!(settings.hold_timeout(RouteKind::Read, seconds(60)), seconds(7));
        settings.write_hold_timeout = Some(seconds(2));
        assert_eq!(settings.hold_timeout(RouteKind::Write, seconds(60)), seconds(2));
    }
}
