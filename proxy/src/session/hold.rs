//! Holding: a client waits until it may connect, for a bounded time.

use std::time::Duration;

use pg_leader_proxy_core::{Moment, Reason};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::connect_failure::ConnectFailure;
use super::record::StartupProgress;
use super::rejection::Rejection;
use super::{AcceptedClient, SessionSettings, Shared};
use crate::admission::{HoldTerms, Permit, SessionGuard, Target, Ticket};
use crate::clock;
use crate::counters::RouteCounters;
use crate::route::RouteKind;
use crate::wire::FirstPacket;

/// How much the proxy reads from a held client, in bytes.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// How long a client waits at most while the reason is one that lasts until somebody mends or changes something. Shorter
/// ones may come with a failover.
const LASTING_HOLD: Duration = Duration::from_secs(3);
/// How long to wait before trying again after a failed connection to a server.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A client that waits for a server, and its place in the queue.
pub(super) struct Hold<'a> {
    accepted: &'a AcceptedClient,
    progress: &'a StartupProgress,
    expiry: Expiry<'a>,
    encrypted: bool,
    ticket: Ticket,
}

/// A client that may connect.
pub(super) struct Admitted {
    /// The server to connect to.
    pub(super) target: Target,
    /// Counts the session there, from this moment on.
    pub(super) guard: SessionGuard,
    /// `None` once the server has kept this client waiting for so long that others need not wait for it.
    pub(super) permit: Option<Permit>,
}

impl<'a> Hold<'a> {
    /// Joins the end of the queue.
    ///
    /// # Errors
    /// A [`Rejection`] if the queue is full.
    pub(super) fn begin(
        (accepted, progress): (&'a AcceptedClient, &'a StartupProgress),
        settings: &'a SessionSettings,
        packet: &FirstPacket,
    ) -> Result<Self, Rejection> {
        let (shared, route) = (&*accepted.shared, accepted.route);
        let expiry = Expiry { shared, route, settings, began: clock::now(), failure: None };
        let gate = match route {
            RouteKind::Write => &shared.write_gate,
            RouteKind::Read => &shared.read_gate,
        };
        let ticket = gate.enqueue().map_err(|_| Rejection::too_many_held(expiry.reason().as_ref()))?;
        Ok(Self { accepted, progress, expiry, encrypted: packet.asks_for_encryption(), ticket })
    }

    /// Waits until this client may connect. Appends what it sends meanwhile to `bytes`. `None` if it left.
    ///
    /// # Errors
    /// A [`Rejection`] if that takes too long, or the proxy is shutting down.
    pub(super) async fn admitted(
        &mut self,
        client: &TcpStream,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Admitted>, Rejection> {
        let Self { accepted, progress, expiry, encrypted, ticket } = self;
        let encrypted_from = encrypted.then(|| accepted.peer.ip());
        let mut waiting = None;
        loop {
            let permit = match ticket.try_permit() {
                Some(permit) => Some(permit),
                None => {
                    waiting.get_or_insert_with(|| HeldGuard::new(accepted.counts(), progress));
                    tokio::select! {
                        permit = ticket.permit() => permit,
                        () = left(client, bytes) => return Ok(None),
                        () = expiry.passed() => return Err(expiry.rejection()),
                    }
                }
            };
            let Some(permit) = permit else { return Err(Rejection::stopping()) };
            let reserved = expiry.shared.targets.borrow().reserve(expiry.route, encrypted_from);
            if let Ok((target, guard)) = reserved {
                if waiting.is_some() {
                    target.counters.iter().for_each(|counters| counters.waited.increment());
                }
                progress.set_connecting(&target.member);
                return Ok(Some(Admitted { target, guard, permit: Some(permit) }));
            }
            // The route closed between the permit and the choice of a server.
            drop(permit);
            if expiry.has_passed() {
                return Err(expiry.rejection());
            }
            ticket.rejoin();
        }
    }

    /// Waits until the client has waited for as long as it may.
    pub(super) async fn expired(&self) {
        self.expiry.passed().await;
    }

    /// Goes back to the same place in the queue after an attempt to connect that failed in this way.
    ///
    /// # Errors
    /// A [`Rejection`] if it has taken too long.
    pub(super) async fn retry(&mut self, failure: ConnectFailure) -> Result<(), Rejection> {
        self.expiry.failure = Some(failure);
        sleep(RETRY_PAUSE).await;
        if self.expiry.has_passed() {
            return Err(self.expiry.rejection());
        }
        self.ticket.rejoin();
        Ok(())
    }
}

/// How long a client waits at most.
struct Expiry<'a> {
    shared: &'a Shared,
    route: RouteKind,
    settings: &'a SessionSettings,
    began: Moment,
    /// The last failed attempt to connect.
    failure: Option<ConnectFailure>,
}

impl Expiry<'_> {
    /// The moment at which the client has waited long enough. It moves with Patroni's `ttl`, and with the reason for the
    /// wait.
    fn moment(&self, terms: &HoldTerms) -> Moment {
        let timeout = self.began + self.settings.hold_timeout(self.route, terms.ttl);
        let lastingly = terms.lasting_since.filter(|_| self.route == RouteKind::Write);
        match lastingly {
            Some(since) => timeout.min(since.max(self.began) + LASTING_HOLD),
            None => timeout,
        }
    }

    fn has_passed(&self) -> bool {
        self.moment(&self.shared.hold_terms.borrow()) <= clock::now()
    }

    /// Waits until the moment has passed, which may move meanwhile.
    async fn passed(&self) {
        let mut terms = self.shared.hold_terms.clone();
        loop {
            let left = self.moment(&terms.borrow_and_update()).since(clock::now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep(left) => {}
                Ok(()) = terms.changed() => {}
            }
        }
    }

    fn rejection(&self) -> Rejection {
        Rejection::no_server(self.reason().as_ref(), self.failure.as_ref())
    }

    /// Why the route waits, if it does.
    fn reason(&self) -> Option<Reason> {
        self.shared.targets.borrow().waits(self.route).cloned()
    }
}

/// Waits until the client closes its connection. Appends what it sends meanwhile to `bytes`.
pub(super) async fn left(client: &TcpStream, bytes: &mut Vec<u8>) {
    while bytes.len() < HELD_BYTES_MAX {
        if client.readable().await.is_err() {
            return;
        }
        match client.try_read_buf(bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    std::future::pending().await
}

/// A client that waits: it counts among the held ones until this is dropped, which records how long it waited.
struct HeldGuard<'a> {
    counts: &'a RouteCounters,
    progress: &'a StartupProgress,
    since: Moment,
}

impl<'a> HeldGuard<'a> {
    fn new(counts: &'a RouteCounters, progress: &'a StartupProgress) -> Self {
        counts.waited.increment();
        counts.held.increment();
        progress.set_held();
        Self { counts, progress, since: clock::now() }
    }
}

impl Drop for HeldGuard<'_> {
    fn drop(&mut self) {
        self.counts.held.decrement();
        let waited = clock::now().since(self.since);
        self.progress.add_waited(waited);
        self.counts.held_time.record(waited);
    }
}
