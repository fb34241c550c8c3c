//! Accepted clients: admitted or rejected by their address, and counted until they are gone.

use std::net::SocketAddr;
use std::sync::Arc;

use super::rejection::Rejection;
use super::{ClientLimits, SessionSettings, Shared};
use crate::clock;
use crate::counters::RouteCounters;
use crate::route::RouteKind;

/// A client that was accepted. It is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct AcceptedClient {
    pub(super) shared: Arc<Shared>,
    pub(super) route: RouteKind,
    /// The client's address: that of its connection, or behind a balancer the one that the header tells.
    pub(super) peer: SocketAddr,
    counted_as: CountedAs,
}

/// Where a client is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CountedAs {
    /// As a session.
    Session,
    /// As a session, also of its address.
    SessionOfAddress,
    /// As one that gets an error.
    Rejected,
}

impl AcceptedClient {
    /// A client that counts as a session.
    pub(super) fn new(shared: Arc<Shared>, route: RouteKind, peer: SocketAddr) -> Self {
        let counts = shared.counters.route(route);
        counts.accepted.increment();
        counts.open.increment();
        Self { shared, route, peer, counted_as: CountedAs::Session }
    }

    pub(super) fn counts(&self) -> &RouteCounters {
        self.shared.counters.route(self.route)
    }

    /// Whether its connection is that of a balancer, which tells the client's address by a header.
    pub(super) fn is_behind_balancer(&self, settings: &SessionSettings) -> bool {
        let access = settings.access.as_ref();
        access.is_some_and(|access| access.of(self.route).balancers.contains(self.peer.ip()))
    }

    /// Admits the client if its address may connect and no limit is reached. Those of one address apply only if `peer` is
    /// `one_client`, not a balancer with all of its clients.
    ///
    /// # Errors
    /// The [`Rejection`] otherwise.
    pub(super) fn admit(&mut self, settings: &SessionSettings, one_client: bool) -> Result<(), Rejection> {
        let Some(access) = &settings.access else { return self.fits(settings.limits) };
        let client = self.peer.ip();
        if !access.of(self.route).allows(client) {
            return Err(Rejection::network_not_allowed(client, self.route));
        }
        self.fits(settings.limits)?;
        let limits = access.limits;
        if one_client && (limits.sessions.is_some() || limits.connections_per_minute.is_some()) {
            let entered = self.shared.addresses.enter(client, limits, clock::now());
            entered.map_err(|limit| Rejection::address_limit(client, limit))?;
            self.counted_as = CountedAs::SessionOfAddress;
        }
        Ok(())
    }

    /// Whether there may be this session, over both routes.
    ///
    /// # Errors
    /// The [`Rejection`] if there are too many.
    pub(super) fn fits(&self, limits: ClientLimits) -> Result<(), Rejection> {
        let open = self.shared.counters.open_sessions();
        match self.counted_as == CountedAs::Rejected || open > limits.sessions as u64 {
            true => Err(Rejection::too_many_sessions(limits.sessions)),
            false => Ok(()),
        }
    }

    /// Counts the client among those that get an error, because it was rejected before its first packet: whoever is not
    /// admitted takes no place of a session. False if there are too many of them, so that it gets none.
    pub(super) fn turn_away(&mut self, limits: ClientLimits) -> bool {
        let rejecting = &self.shared.counters.rejecting;
        if self.counted_as != CountedAs::Rejected {
            self.counted_as = CountedAs::Rejected;
            self.counts().open.decrement();
            rejecting.increment();
        }
        rejecting.value() <= limits.rejected_at_once as u64
    }
}

impl Drop for AcceptedClient {
    fn drop(&mut self) {
        match self.counted_as {
            CountedAs::Session => self.counts().open.decrement(),
            CountedAs::SessionOfAddress => {
                self.counts().open.decrement();
                self.shared.addresses.leave(self.peer.ip(), clock::now());
            }
            CountedAs::Rejected => self.shared.counters.rejecting.decrement(),
        }
    }
}
