//! A session: the life of one client connection, from its first packet to the end of its relay.

mod boundary;
mod cancel;
mod first_packet;
mod refusal;
mod relay;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy_core::{MemberName, Reason};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use self::boundary::Boundary;
use self::first_packet::Opening;
use self::refusal::Refusal;
use self::relay::{End, Relay, Scratch};
use crate::clock;
use crate::config;
use crate::gate::{Entry, Gate, Place};
use crate::net;
use crate::tally::{Count, RouteKind, RouteTally, Tally};
use crate::targets::{Target, Targets};
use crate::wire::FirstPacket;

/// How much a held client may send before the proxy stops reading from it, in bytes.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// The most that is read of a server's first answer before it is passed on, in bytes.
const ANSWER_MAX: usize = 4 * 1024;
/// How long a client waits before it tries a server again that did not take the connection.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How large the scratch buffer of a worker is, in bytes.
const SCRATCH_SIZE: usize = 64 * 1024;
/// How many sessions beyond the limit are told so before further ones are cut off without a word.
const TOLD_BEYOND_LIMIT: u64 = 256;

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
    scratch: Scratch,
}

impl WorkerContext {
    pub(crate) fn new(shared: Shared) -> Rc<Self> {
        Rc::new(Self { shared, scratch: Scratch::new(vec![0; SCRATCH_SIZE].into_boxed_slice()) })
    }

    /// Serves one client from its first byte to its last.
    pub(crate) async fn serve(self: Rc<Self>, route: RouteKind, client: TcpStream, peer: SocketAddr) {
        let tally = Arc::clone(&self.shared.tally);
        let counts = tally.route(route);
        counts.accepted.up();
        let session =
            Session { context: &self, route, counts, settings: *self.shared.settings.borrow(), peer };
        let open = tally.open_sessions();
        let limit = session.settings.session.max_sessions as u64;
        if open >= limit + TOLD_BEYOND_LIMIT {
            counts.refusals(crate::tally::RefusalKind::TooManySessions).up();
            net::reset_on_close(&client);
            return;
        }
        let _open = Raised::new(&counts.open);
        session.run(client, open >= limit).await;
    }
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

/// One client and what it needs to know.
struct Session<'a> {
    context: &'a WorkerContext,
    route: RouteKind,
    counts: &'a RouteTally,
    settings: Settings,
    peer: SocketAddr,
}

/// A server that answered a client's first packet.
struct Connected {
    target: Target,
    entry: Entry,
    server: TcpStream,
    answer: Vec<u8>,
}

impl Session<'_> {
    async fn run(&self, client: TcpStream, beyond_limit: bool) {
        if let Err(error) = net::prepare(&client, &self.settings.session) {
            debug!(peer = %self.peer, %error, "client left at once");
            return;
        }
        let opening = match first_packet::read(&client, self.settings.session.startup_timeout).await {
            Ok(Some(opening)) => opening,
            Ok(None) => return,
            Err(refusal) => {
                return self.refuse(client, &FirstPacket::Startup(Default::default()), refusal).await;
            }
        };
        debug!(peer = %self.peer, route = self.route.code(), packet = ?opening.packet, "first packet");
        if opening.packet == FirstPacket::CancelRequest {
            return cancel::forward(&self.context.shared, self.route, &self.settings.session, &opening.bytes)
                .await;
        }
        if beyond_limit {
            let refusal = Refusal::too_many_sessions(self.settings.session.max_sessions);
            return self.refuse(client, &opening.packet, refusal).await;
        }
        let Opening { packet, mut bytes } = opening;
        match self.connect(&client, &packet, &mut bytes).await {
            Ok(Some(connected)) => self.relay(client, &packet, bytes, connected).await,
            Ok(None) => debug!(peer = %self.peer, "client left while it waited"),
            Err(refusal) => self.refuse(client, &packet, refusal).await,
        }
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
        let deadline = Instant::now() + self.settings.hold(self.route);
        loop {
            let Some((target, entry)) = self.hold(client, bytes, deadline).await? else { return Ok(None) };
            match self.open(&target, packet, bytes).await {
                Ok(Some((server, answer))) => {
                    return Ok(Some(Connected { target, entry, server, answer }));
                }
                Ok(None) => debug!(member = %target.member, "the server is not ready; waiting on"),
                Err(error) => {
                    self.counts.connect_failures.up();
                    debug!(member = %target.member, %error, "cannot connect; waiting on");
                }
            }
            self.suspect(&target);
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
                        self.counts.waited.up();
                        Raised::new(&self.counts.held)
                    });
                    tokio::select! {
                        entry = place.entry() => entry,
                        () = left(client, bytes) => return Ok(None),
                        () = sleep_until(deadline) => return Err(Refusal::no_server(&self.reason())),
                    }
                }
            };
            let Some(entry) = entry else { return Err(Refusal::stopping()) };
            let chosen = self.context.shared.targets.borrow().choose(self.route).cloned().ok();
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
                    first_packet::answer(&server, session.connect_timeout, ANSWER_MAX).await?
                }
            };
            Ok((!first_packet::is_not_now(&answer)).then_some((server, answer)))
        };
        tokio::select! {
            opened = work => opened,
            () = target.pass.revoked() => Ok(None),
        }
    }

    async fn relay(&self, client: TcpStream, packet: &FirstPacket, bytes: Vec<u8>, connected: Connected) {
        let Connected { target, entry, server, answer } = connected;
        drop(bytes);
        let _occupied = target.occupy();
        self.counts.connected.up();
        if let Some(tally) = &target.tally {
            tally.connected.up();
            tally.served(clock::now());
        }
        let boundary = match packet {
            FirstPacket::Startup(_) => Boundary::messages(),
            FirstPacket::SslRequest | FirstPacket::GssEncRequest => Boundary::negotiating(),
            FirstPacket::CancelRequest | FirstPacket::DirectTls => Boundary::unknown(),
        };
        let relay = Relay::new(client, server, Arc::clone(&target.pass)).with_entry(entry);
        let mut relay = relay.with_answer(boundary, answer);
        let end = relay.run(&self.context.scratch).await;
        debug!(peer = %self.peer, member = %target.member, epoch = %target.epoch, %end, "session ended");
        let (to_server, to_client) = relay.passed();
        self.counts.bytes_to_server.add(to_server);
        self.counts.bytes_to_client.add(to_client);
        match end {
            End::Severed => self.sever(relay, &target),
            End::ServerBroke(_) | End::Finished => {
                if relay.client_stayed() {
                    target.tally.iter().for_each(|tally| tally.lost(clock::now()));
                }
                self.suspect(&target);
            }
            End::ClientBroke(_) => {}
        }
    }

    fn sever(&self, relay: Relay, target: &Target) {
        self.counts.severed.up();
        if let Some(tally) = &target.tally {
            tally.cut.up();
            relay.last_passed().into_iter().for_each(|at| tally.passed(at));
        }
        let why =
            target.pass.severance().map_or_else(|| "its lease has run out".to_owned(), ToString::to_string);
        relay.sever(&why);
    }

    async fn refuse(&self, client: TcpStream, packet: &FirstPacket, refusal: Refusal) {
        debug!(peer = %self.peer, route = self.route.code(), %refusal, "client refused");
        self.counts.refusals(refusal.kind).up();
        refusal.send(client, packet).await;
    }

    fn arrive(&self) -> Result<Place, Refusal> {
        let gate = match self.route {
            RouteKind::Write => &self.context.shared.write_gate,
            RouteKind::Read => &self.context.shared.read_gate,
        };
        gate.arrive().map_err(|_| Refusal::too_many_held(&self.reason()))
    }

    /// Why there is no server at the moment; if there is one, it did not take the connection.
    fn reason(&self) -> Option<Reason> {
        self.context.shared.targets.borrow().choose(self.route).err().cloned()
    }

    fn suspect(&self, target: &Target) {
        // A full channel means that the probes are being told already.
        let _ = self.context.shared.suspect.try_send(target.member.clone());
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
