//! A session: the life of one client connection, from its first packet to the end of its relay.

mod arrival;
mod boundary;
mod cancel;
mod first_packet;
mod refusal;
mod relay;
mod scratch;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::MemberName;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tracing::debug;

use self::relay::{End, Relay};
use self::scratch::{Scratch, SharedScratch};
use crate::clock;
use crate::config;
use crate::gate::Gate;
use crate::tally::{RouteKind, RouteTally, Tally};
use crate::targets::{Occupied, Targets};
use crate::worker::{Pulse, Seat};

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

/// What all workers share.
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

/// What all sessions of one worker share.
pub(crate) struct WorkerContext {
    pub(crate) shared: Shared,
    pub(crate) pulse: Pulse,
    scratch: SharedScratch,
}

impl WorkerContext {
    pub(crate) fn new(shared: Shared) -> Rc<Self> {
        Rc::new(Self { shared, pulse: Pulse::default(), scratch: Scratch::shared() })
    }

    /// Serves one client from its first byte to its last.
    pub(crate) fn serve(
        self: Rc<Self>,
        route: RouteKind,
        (client, peer): (TcpStream, SocketAddr),
        seat: Seat,
    ) -> impl Future<Output = ()> + use<> {
        self.pulse.keep();
        // In a box, because a session that idles for hours need not keep room for how it began.
        let arriving = Box::pin(arrival::bring(self, route, (client, peer), seat));
        async {
            if let Some(session) = arriving.await {
                session.relay().await;
            }
        }
    }

    fn suspect(&self, member: &MemberName) {
        // A full channel means that the probes are being told already.
        let _ = self.shared.suspect.try_send(member.clone());
    }
}

/// A client that was accepted; it counts as open until this is dropped.
struct Visit {
    context: Rc<WorkerContext>,
    route: RouteKind,
    peer: SocketAddr,
    _seat: Seat,
}

impl Visit {
    fn new(context: Rc<WorkerContext>, route: RouteKind, peer: SocketAddr, seat: Seat) -> Self {
        context.shared.tally.route(route).open.up();
        Self { context, route, peer, _seat: seat }
    }

    fn counts(&self) -> &RouteTally {
        self.context.shared.tally.route(self.route)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.counts().open.down();
    }
}

/// A client and the server that answered it.
struct Session {
    visit: Visit,
    place: Occupied,
    relay: Relay,
}

impl Session {
    async fn relay(mut self: Box<Self>) {
        self.visit.counts().connected.up();
        if let Some(tally) = &self.place.tally {
            tally.connected.up();
            tally.served(clock::now());
        }
        let scratch = &self.visit.context.scratch;
        // In a box, because a session that idles for hours need not keep room for it.
        let end = match Box::pin(self.relay.log_in(scratch)).await {
            Some(end) => end,
            None => self.relay.run(scratch).await,
        };
        self.end(&end);
    }

    fn end(self, end: &End) {
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
                visit.context.suspect(&place.member);
            }
            End::Finished | End::ServerBroke(_) | End::ClientBroke(_) => {}
        }
    }
}
