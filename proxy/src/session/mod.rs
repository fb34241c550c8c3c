//! A session: the life of one client connection, from its first packet to the end of its relay.

mod arrival;
mod boundary;
mod cancel;
mod first_packet;
mod reading;
mod refusal;
mod relay;
mod scratch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::MemberName;
use tokio::sync::{mpsc, watch};
use tracing::debug;

pub(crate) use self::arrival::Arrivals;
pub(crate) use self::relay::{End, Progress, Relay, Side};
pub(crate) use self::scratch::Scratch;
use crate::clock;
use crate::config;
use crate::gate::Gate;
use crate::tally::{RouteKind, RouteTally, Tally};
use crate::targets::{Occupied, Targets};
use crate::worker::Seat;

/// The settings that sessions look at; new ones take effect at the next look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What holds for every session.
    pub session: config::Session,
    /// How long a client of the write route waits for a server.
    pub write_hold: Duration,
    /// How long a client of the read route waits for a server.
    pub read_hold: Duration,
}

impl Settings {
    const fn hold(&self, route: RouteKind) -> Duration {
        match route {
            RouteKind::Write => self.write_hold,
            RouteKind::Read => self.read_hold,
        }
    }
}

/// What all sessions share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Where sessions go.
    pub targets: watch::Receiver<Arc<Targets>>,
    /// The settings in force.
    pub settings: watch::Receiver<Settings>,
    /// Where clients of the write route wait.
    pub write_gate: Gate,
    /// Where clients of the read route wait.
    pub read_gate: Gate,
    /// What is counted.
    pub tally: Arc<Tally>,
    /// Tells the probes that a connection to this member broke.
    pub suspect: mpsc::Sender<MemberName>,
}

impl Shared {
    /// Has the probes ask a server that may have failed.
    fn suspect(&self, member: &MemberName) {
        // A full channel means that the probes are being told already.
        let _ = self.suspect.try_send(member.clone());
    }
}

/// A client that was accepted; it counts as open until this is dropped.
#[derive(Debug)]
pub(crate) struct Visit {
    shared: Arc<Shared>,
    route: RouteKind,
    peer: SocketAddr,
    seat: Seat,
}

impl Visit {
    pub(crate) fn new(shared: Arc<Shared>, route: RouteKind, peer: SocketAddr, seat: Seat) -> Self {
        let counts = shared.tally.route(route);
        counts.accepted.up();
        counts.open.up();
        Self { shared, route, peer, seat }
    }

    fn counts(&self) -> &RouteTally {
        self.shared.tally.route(self.route)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.counts().open.down();
    }
}

/// A client and the server that answered it.
pub(crate) struct Session {
    visit: Visit,
    place: Occupied,
    pub(crate) relay: Relay,
}

impl Session {
    /// Has it counted with another worker.
    pub(crate) fn change_seat(&mut self, seat: Seat) {
        self.visit.seat = seat;
    }

    /// Counts it among those that have a server.
    pub(crate) fn begin(&self) {
        self.visit.counts().connected.up();
        if let Some(tally) = &self.place.tally {
            tally.connected.up();
            tally.served(clock::now());
        }
    }

    /// Closes both connections, and tells whom it concerns how it ended.
    pub(crate) fn end(self, end: &End) {
        let Self { visit, place, relay } = self;
        debug!(peer = %visit.peer, member = %place.member, epoch = %place.epoch, %end, "session ended");
        let counts = visit.counts();
        let (to_server, to_client) = relay.passed();
        counts.bytes_to_server.add(to_server);
        counts.bytes_to_client.add(to_client);
        match end {
            End::Severed => {
                counts.severed.up();
                if let Some(tally) = &place.tally {
                    tally.cut.up();
                    relay.last_passed().into_iter().for_each(|at| tally.passed(at));
                }
                relay.sever();
            }
            End::Finished | End::ServerBroke(_) | End::ClientBroke(_) if relay.server_ended(end) => {
                place.tally.iter().for_each(|tally| tally.lost(clock::now()));
                visit.shared.suspect(&place.member);
            }
            End::Finished | End::ServerBroke(_) | End::ClientBroke(_) => {}
        }
    }
}
