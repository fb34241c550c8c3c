//! An arrival: a client from its first packet to the server that answers it, or to its refusal.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use pg_leader_proxy_core::Reason;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::boundary::Boundary;
use super::first_packet::{self, Opening};
use super::reading::Desk;
use super::refusal::Refusal;
use super::relay::Relay;
use super::{Session, Settings, Shared, Visit, cancel};
use crate::clock;
use crate::gate::{Entry, Place};
use crate::net;
use crate::tally::{Count, RefusalKind, RouteKind};
use crate::targets::Target;
use crate::wire::FirstPacket;
use crate::worker::Seat;

/// How much a held client may send before the proxy stops reading from it, in bytes.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// How many sessions beyond the limit are told so before further ones are cut off without a word.
const TOLD_BEYOND_LIMIT: u64 = 256;
/// How long a client waits before it tries a server again that did not take the connection.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long a session takes to settle. A login may keep its entry of the gate for that long.
const SETTLING: Duration = Duration::from_millis(100);

/// What all arrivals share.
#[derive(Debug)]
pub(crate) struct Arrivals {
    shared: Arc<Shared>,
    desk: Desk,
}

impl Arrivals {
    pub(crate) fn new(shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self { shared, desk: Desk::default() })
    }

    /// Brings a client to a server; `None` when that comes to nothing, or is a cancel request.
    ///
    /// It counts as open from this call on. What is returned belongs into tokio.
    pub(crate) fn bring(
        self: Rc<Self>,
        route: RouteKind,
        (client, peer): (std::net::TcpStream, SocketAddr),
        seat: Seat,
    ) -> impl Future<Output = Option<Session>> + use<> {
        let visit = Visit::new(Arc::clone(&self.shared), route, peer, seat);
        let settings = *self.shared.settings.borrow();
        let open = self.shared.tally.open_sessions();
        Arrival { arrivals: self, visit, settings }.join(client, open)
    }
}

/// A client that is not yet relayed, and what it needs to know.
struct Arrival {
    arrivals: Rc<Arrivals>,
    visit: Visit,
    settings: Settings,
}

/// A server that answered a client's first packet.
struct Connected {
    target: Target,
    entry: Entry,
    server: TcpStream,
    answer: Vec<u8>,
}

impl Arrival {
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps room for its arguments twice")]
    fn join(self, client: std::net::TcpStream, open: u64) -> impl Future<Output = Option<Session>> {
        async move {
            let limit = self.settings.session.max_sessions as u64;
            if open > limit + TOLD_BEYOND_LIMIT {
                self.visit.counts().refusals(RefusalKind::TooManySessions).up();
                net::reset_on_close(&client);
                return None;
            }
            let watched = TcpStream::from_std(client);
            let cannot_watch = |error: &_| warn!(peer = %self.visit.peer, %error, "cannot watch a client");
            let mut client = watched.inspect_err(cannot_watch).ok()?;
            let session = &self.settings.session;
            let reading = first_packet::read(&mut client, self.desk(), session.startup_timeout);
            let Opening { packet, mut bytes } = match reading.await {
                Ok(opening) => opening?,
                Err(refusal) => {
                    self.refuse(client, &FirstPacket::Startup(Default::default()), refusal).await;
                    return None;
                }
            };
            debug!(peer = %self.visit.peer, route = self.visit.route.code(), ?packet, "first packet");
            if packet == FirstPacket::CancelRequest {
                cancel::forward(self.shared(), self.visit.route, session, &bytes).await;
                return None;
            }
            if open > limit {
                let refusal = Refusal::too_many_sessions(session.max_sessions);
                self.refuse(client, &packet, refusal).await;
                return None;
            }
            match self.connect(&client, &packet, &mut bytes).await {
                Ok(Some(connected)) => {
                    let joined = connected.joined(self.visit, client, &packet);
                    return joined.inspect_err(|error| warn!(%error, "cannot relay a client")).ok();
                }
                Ok(None) => debug!(peer = %self.visit.peer, "client left while it waited"),
                Err(refusal) => self.refuse(client, &packet, refusal).await,
            }
            None
        }
    }

    fn shared(&self) -> &Shared {
        &self.arrivals.shared
    }

    fn desk(&self) -> &Desk {
        &self.arrivals.desk
    }

    /// Waits for a server, connects and sends the first packet, until a server answers with more than "not now".
    ///
    /// As long as no byte of an answer has reached the client, any failure only means to wait on. `None` when the
    /// client left.
    async fn connect(
        &self,
        client: &TcpStream,
        packet: &FirstPacket,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<Connected>, Refusal> {
        let deadline = Instant::now() + self.settings.hold(self.visit.route);
        loop {
            let Some((target, entry)) = self.hold(client, bytes, deadline).await? else { return Ok(None) };
            match self.open(&target, packet, bytes).await {
                Ok(Some((server, answer))) => {
                    return Ok(Some(Connected { target, entry, server, answer }));
                }
                Ok(None) => debug!(member = %target.member, "the server is not ready; waiting on"),
                Err(error) => {
                    self.visit.counts().connect_failures.up();
                    debug!(member = %target.member, %error, "cannot connect; waiting on");
                }
            }
            self.shared().suspect(&target.member);
            drop(entry);
            sleep(RETRY_PAUSE).await;
            if Instant::now() >= deadline {
                return Err(Refusal::no_server(&self.reason()));
            }
        }
    }

    /// Waits until this client may connect, and to whom. `None` when the client left.
    async fn hold(
        &self,
        client: &TcpStream,
        bytes: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<Option<(Target, Entry)>, Refusal> {
        let mut place = self.arrive()?;
        let mut waiting = None;
        loop {
            let entry = match place.entry_now() {
                Some(entry) => Some(entry),
                None => {
                    waiting.get_or_insert_with(|| {
                        self.visit.counts().waited.up();
                        Raised::new(&self.visit.counts().held)
                    });
                    tokio::select! {
                        entry = place.entry() => entry,
                        () = left(client, bytes) => return Ok(None),
                        () = sleep_until(deadline) => return Err(Refusal::no_server(&self.reason())),
                    }
                }
            };
            let Some(entry) = entry else { return Err(Refusal::stopping()) };
            let chosen = self.shared().targets.borrow().choose(self.visit.route).cloned().ok();
            if let Some(target) = chosen {
                if waiting.is_some() {
                    target.tally.iter().for_each(|tally| tally.waited.up());
                }
                return Ok(Some((target, entry)));
            }
            // The route closed between the entry and the look at it.
            drop(entry);
            if Instant::now() >= deadline {
                return Err(Refusal::no_server(&self.reason()));
            }
            place = self.arrive()?;
        }
    }

    /// Connects to `target`, sends the first packet and waits for the answer; `None` when it is "not now".
    ///
    /// # Errors
    /// When the connection cannot be made or ends before the first byte of an answer.
    async fn open(
        &self,
        target: &Target,
        packet: &FirstPacket,
        bytes: &[u8],
    ) -> std::io::Result<Option<(TcpStream, Vec<u8>)>> {
        let session = &self.settings.session;
        let work = async {
            let mut server = net::connect(&target.addr, session).await?;
            if !target.pass.allows(clock::now()) {
                return Ok(None);
            }
            net::within(session.connect_timeout, server.write_all(bytes)).await?;
            let answer = match packet {
                // Its answer is encrypted, and may need more of the client first.
                FirstPacket::DirectTls => Vec::new(),
                FirstPacket::Startup(_)
                | FirstPacket::SslRequest
                | FirstPacket::GssEncRequest
                | FirstPacket::CancelRequest => {
                    first_packet::answer(&mut server, self.desk(), session.connect_timeout).await?
                }
            };
            Ok((!first_packet::is_not_now(&answer)).then_some((server, answer)))
        };
        tokio::select! {
            opened = work => opened,
            () = target.pass.revoked() => Ok(None),
        }
    }

    async fn refuse(&self, client: TcpStream, packet: &FirstPacket, refusal: Refusal) {
        debug!(peer = %self.visit.peer, route = self.visit.route.code(), %refusal, "client refused");
        self.visit.counts().refusals(refusal.kind).up();
        refusal.send(client, packet).await;
    }

    fn arrive(&self) -> Result<Place, Refusal> {
        let gate = match self.visit.route {
            RouteKind::Write => &self.shared().write_gate,
            RouteKind::Read => &self.shared().read_gate,
        };
        gate.arrive().map_err(|_| Refusal::too_many_held(&self.reason()))
    }

    /// Why there is no server at the moment; if there is one, it did not take the connection.
    fn reason(&self) -> Option<Reason> {
        self.shared().targets.borrow().choose(self.visit.route).err().cloned()
    }
}

impl Connected {
    /// The session, whose relay begins with the answer. It leaves the runtime that brought it about.
    fn joined(self, visit: Visit, client: TcpStream, packet: &FirstPacket) -> std::io::Result<Session> {
        let Self { target, entry, server, answer } = self;
        let boundary = match packet {
            FirstPacket::Startup(_) => Boundary::messages(),
            FirstPacket::SslRequest | FirstPacket::GssEncRequest => Boundary::negotiating(),
            FirstPacket::CancelRequest | FirstPacket::DirectTls => Boundary::unknown(),
        };
        let sockets = [client.into_std()?, server.into_std()?];
        let login = (entry, StdInstant::now() + SETTLING);
        let relay = Relay::new(sockets, Arc::clone(&target.pass), (boundary, answer), login);
        Ok(Session { visit, place: target.occupy(), relay })
    }
}

/// Resolves when the client closes its connection; keeps what it sends meanwhile.
async fn left(client: &TcpStream, bytes: &mut Vec<u8>) {
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

/// A gauge that is one higher for as long as this lives.
struct Raised<'a>(&'a Count);

impl<'a> Raised<'a> {
    fn new(gauge: &'a Count) -> Self {
        gauge.up();
        Self(gauge)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.down();
    }
}
