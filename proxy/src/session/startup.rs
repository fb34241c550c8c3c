//! Start-up: a client from its first packet to the server that answers it, or to its rejection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::boundary::Boundary;
use super::connect_failure::{ConnectFailure, FailureLog};
use super::first_answer::{self, FirstAnswer};
use super::first_packet::{self, Deadline, ENCRYPTION_REFUSED, ReceivedPacket};
use super::hold::{self, Admitted, Hold};
use super::login::Login;
use super::proxy_header;
use super::read_buffer::ReadBuffer;
use super::record::{SessionId, SessionRecord, StartupProgress};
use super::rejection::Rejection;
use super::rejection_log::RejectionLog;
use super::relay::Relay;
use super::{AcceptedClient, Session, SessionSettings, Shared, cancel, log};
use crate::admission::Permit;
use crate::clock;
use crate::net;
use crate::proxy_protocol::Header;
use crate::route::RouteKind;
use crate::wire::FirstPacket;

/// How long after the server's first answer a session settles. A login may keep its permit for that long.
const SETTLING: Duration = Duration::from_millis(100);

/// What a client hears at the end of its hold if its server took the connection and then said nothing.
const NO_ANSWER: &str = "it has not answered the first packet";

/// What all start-ups of a worker share.
#[derive(Debug)]
pub(crate) struct StartupContext {
    shared: Arc<Shared>,
    read_buffer: ReadBuffer,
    failure_log: FailureLog,
    rejection_log: RejectionLog,
}

impl StartupContext {
    pub(crate) fn new(shared: Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            shared,
            read_buffer: ReadBuffer::default(),
            failure_log: FailureLog::default(),
            rejection_log: RejectionLog::default(),
        })
    }

    /// Connects a client to a server, and shows how far that is; the future gives `None` if the client is rejected or leaves, or sends a cancel request.
    /// A rejected client beyond the number that may wait for an error is reset, so that it takes no descriptor any more.
    ///
    /// The client is counted from this call on. The future must be polled in a tokio runtime.
    pub(crate) fn start(
        self: Rc<Self>,
        route: RouteKind,
        (client, peer): (std::net::TcpStream, SocketAddr),
    ) -> Option<(Rc<StartupProgress>, impl Future<Output = Option<Session>> + use<>)> {
        let mut accepted = AcceptedClient::new(Arc::clone(&self.shared), route, peer);
        let settings = self.shared.settings.borrow().clone();
        let behind_balancer = accepted.is_behind_balancer(&settings);
        let admitted = match behind_balancer {
            true => accepted.fits(settings.limits),
            false => accepted.admit(&settings, true),
        };
        let rejection = admitted.err().map(Box::new);
        if let Some(rejection) = rejection.as_deref().filter(|_| !accepted.turn_away(settings.limits)) {
            self.reset(&accepted, &client, rejection);
            return None;
        }
        let id = SessionId(self.shared.counters.number_session());
        let progress = Rc::new(StartupProgress::new(id, route, peer));
        let known = Rc::clone(&progress);
        let startup =
            ClientStartup { context: self, accepted, settings, progress, behind_balancer, rejection };
        Some((known, startup.join(client)))
    }

    /// Resets the connection of a rejected client that gets no error.
    fn reset(&self, accepted: &AcceptedClient, client: &impl AsFd, rejection: &Rejection) {
        self.count(accepted, rejection);
        net::reset_on_close(client);
    }

    fn count(&self, accepted: &AcceptedClient, rejection: &Rejection) {
        accepted.counts().rejections(rejection.kind).increment();
        self.rejection_log.record(rejection, accepted.peer, accepted.route);
    }
}

/// The start-up of one client.
struct ClientStartup {
    context: Rc<StartupContext>,
    accepted: AcceptedClient,
    settings: SessionSettings,
    progress: Rc<StartupProgress>,
    /// Whether the connection begins with a PROXY protocol header.
    behind_balancer: bool,
    /// Why the client gets an error once its first packet is there.
    rejection: Option<Box<Rejection>>,
}

/// What came of a client's first packet at one server.
enum Opened {
    /// The server has answered, or the client goes on without an answer (direct TLS).
    Answered(TcpStream, Vec<u8>),
    /// The server takes no session now, or may take none any more.
    NotNow,
    /// The client left before the server had answered.
    ClientLeft,
}

/// A server that answered a client's first packet.
struct Connected {
    admitted: Admitted,
    server: TcpStream,
    answer: Vec<u8>,
}

/// Why a client gets no server.
enum Unserved {
    /// It left.
    Left,
    /// It needed none: after the server had refused encryption, it sent a cancel request, which was forwarded.
    CancelRequest,
    Rejected(Rejection),
}

impl From<Rejection> for Unserved {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl ClientStartup {
    #[expect(clippy::manual_async_fn, reason = "an async fn stores its arguments twice")]
    fn join(mut self, client: std::net::TcpStream) -> impl Future<Output = Option<Session>> {
        async move {
            let watched = TcpStream::from_std(client);
            let cannot_watch = |error: &_| warn!(peer = %self.accepted.peer, %error, "cannot watch a client");
            let mut client = watched.inspect_err(cannot_watch).ok()?;
            let mut opening = match self.receive(&mut client).await {
                Ok(opening) => opening?,
                Err(rejection) => {
                    self.reject(client, &FirstPacket::StartupMessage(Default::default()), rejection).await;
                    return None;
                }
            };
            debug!(peer = %self.accepted.peer, route = self.accepted.route.code(), packet = ?opening.packet, "first packet");
            self.progress.set_packet(&opening.packet);
            let is_cancel = opening.packet == FirstPacket::CancelRequest;
            // Limits do not keep a client from cancelling its own queries.
            let rejection =
                self.rejection.take().filter(|rejection| !is_cancel || rejection.forbids_cancel());
            if let Some(rejection) = rejection {
                self.reject(client, &opening.packet, *rejection).await;
                return None;
            }
            if is_cancel {
                cancel::forward(self.shared(), self.accepted.route, &self.settings, opening.opening_bytes())
                    .await;
                return None;
            }
            let connected = tokio::select! {
                biased;
                () = self.progress.terminated() => Err(Rejection::terminated().into()),
                connected = self.connect(&mut client, &mut opening) => connected,
            };
            match connected {
                Ok(connected) => {
                    let record = self.progress.record();
                    let into_session = connected.into_session(self.accepted, client, opening, record);
                    return into_session.inspect_err(|error| warn!(%error, "cannot relay a client")).ok();
                }
                Err(Unserved::Left) => log::left(self.shared(), &self.progress),
                Err(Unserved::CancelRequest) => {}
                Err(Unserved::Rejected(rejection)) => self.reject(client, &opening.packet, rejection).await,
            }
            None
        }
    }

    /// Reads the first packet, behind a balancer after the header; `None` if the client needs no answer.
    ///
    /// # Errors
    /// If one of them is invalid, or does not come in time.
    async fn receive(&mut self, client: &mut TcpStream) -> Result<Option<ReceivedPacket>, Rejection> {
        let deadline = Deadline::after(self.settings.startup_timeout);
        let mut bytes = Vec::new();
        if self.behind_balancer {
            let reading = proxy_header::read(client, self.read_buffer(), &mut bytes, deadline);
            let Some(header) = reading.await? else { return Ok(None) };
            if !self.identify(header, client) {
                return Ok(None);
            }
        }
        first_packet::read(client, self.read_buffer(), bytes, deadline).await
    }

    /// Takes the client's address from the header, and admits or rejects it. False if it is reset.
    fn identify(&mut self, header: Header, client: &TcpStream) -> bool {
        let Self { context, accepted, settings, progress, rejection, .. } = self;
        if let Some(address) = header.client {
            debug!(balancer = %accepted.peer, peer = %address, "PROXY header");
            accepted.peer = address;
            progress.set_client(address);
        }
        let Err(reason) = accepted.admit(settings, header.client.is_some()) else { return true };
        let told = accepted.turn_away(settings.limits);
        if !told {
            context.reset(accepted, client, &reason);
        }
        *rejection = Some(Box::new(reason));
        told
    }

    fn shared(&self) -> &Shared {
        &self.context.shared
    }

    fn read_buffer(&self) -> &ReadBuffer {
        &self.context.read_buffer
    }

    /// Waits for a server, connects and sends the first packet, until a server answers with something other than "not
    /// now".
    ///
    /// Any failure before the first byte of an answer only means to keep waiting: the client does not notice it. That a server
    /// refuses encryption is no such byte: the client goes on with another first packet, which any server can answer. Until
    /// then a server has nothing that it could carry out twice.
    async fn connect(
        &self,
        client: &mut TcpStream,
        opening: &mut ReceivedPacket,
    ) -> Result<Connected, Unserved> {
        let mut hold = Hold::begin((&self.accepted, &self.progress), &self.settings, &opening.packet)?;
        let mut plaintext = None;
        loop {
            let (mut admitted, server) = match plaintext.take() {
                Some((admitted, server)) => (admitted, Some(server)),
                None => match hold.admitted(client, &mut opening.bytes).await? {
                    Some(admitted) => (admitted, None),
                    None => return Err(Unserved::Left),
                },
            };
            let failure = match self.open(&mut admitted, server, opening, (client, &hold)).await {
                Ok(Opened::Answered(server, answer)) if opening.is_refused_encryption(&answer) => {
                    self.refuse_encryption(&mut admitted, client, opening).await?;
                    plaintext = Some((admitted, server));
                    continue;
                }
                Ok(Opened::Answered(server, answer)) => return Ok(Connected { admitted, server, answer }),
                Ok(Opened::ClientLeft) => return Err(Unserved::Left),
                Ok(Opened::NotNow) => ConnectFailure::not_ready(&admitted.target),
                Err(error) => {
                    self.accepted.counts().connect_failures.increment();
                    admitted.target.sessions.counters().connect_failures.increment();
                    ConnectFailure::new(&admitted.target, &error)
                }
            };
            self.context.failure_log.record(&failure);
            if !failure.is_local() {
                self.shared().recheck(&admitted.target.member);
            }
            drop(admitted);
            hold.retry(failure).await?;
        }
    }

    /// Tells the client that the server refuses encryption, and reads its next first packet.
    ///
    /// # Errors
    /// If that packet is invalid, does not come in time or needs no server, or if the client leaves.
    async fn refuse_encryption(
        &self,
        admitted: &mut Admitted,
        client: &mut TcpStream,
        opening: &mut ReceivedPacket,
    ) -> Result<(), Unserved> {
        let bound = self.settings.startup_timeout;
        admitted.permit.iter_mut().for_each(Permit::pause);
        if net::within(bound, client.write_all(&[ENCRYPTION_REFUSED])).await.is_err() {
            return Err(Unserved::Left);
        }
        let reading = first_packet::read(client, self.read_buffer(), Vec::new(), Deadline::after(bound));
        let next = reading.await?.ok_or(Unserved::Left)?;
        if next.packet == FirstPacket::CancelRequest {
            cancel::forward(self.shared(), self.accepted.route, &self.settings, next.opening_bytes()).await;
            return Err(Unserved::CancelRequest);
        }
        admitted.permit.iter_mut().for_each(Permit::resume);
        self.progress.set_packet(&next.packet);
        *opening = next;
        Ok(())
    }

    /// Connects to the server, unless it is connected already, sends the first packet and waits for the answer.
    ///
    /// # Errors
    /// If the connection cannot be made, or ends before the answer, or the hold ends before it.
    async fn open(
        &self,
        admitted: &mut Admitted,
        server: Option<TcpStream>,
        opening: &mut ReceivedPacket,
        (client, hold): (&TcpStream, &Hold<'_>),
    ) -> io::Result<Opened> {
        let SessionSettings { connect_timeout, socket, .. } = &self.settings;
        let Admitted { target, permit, .. } = admitted;
        let began = server.is_none().then(clock::now);
        let work = async {
            let mut server = match server {
                Some(server) => server,
                None => net::connect(target.socket, *connect_timeout, socket).await?,
            };
            if !target.grant.allows(clock::now()) {
                return Ok(Opened::NotNow);
            }
            net::within(*connect_timeout, server.write_all(opening.opening_bytes())).await?;
            let mut answer = Vec::new();
            let answered = match opening.packet {
                // The answer is encrypted, and may need more bytes from the client first.
                FirstPacket::DirectTls => Some(FirstAnswer::ForClient),
                FirstPacket::StartupMessage(_)
                | FirstPacket::SslRequest
                | FirstPacket::GssEncRequest
                | FirstPacket::CancelRequest => {
                    let waiting = (client, &mut opening.bytes, hold);
                    self.answer((&mut server, &mut answer), permit, waiting).await?
                }
            };
            if let Some(began) = began {
                target.sessions.counters().connect_time.record(clock::now().since(began));
            }
            Ok(match answered {
                Some(FirstAnswer::ForClient) => Opened::Answered(server, answer),
                Some(FirstAnswer::NotNow) => Opened::NotNow,
                None => Opened::ClientLeft,
            })
        };
        tokio::select! {
            // A revocation goes first: no byte of this server's answer may pass any more. While the client has none, it
            // can still wait for the next server; a relay would only end its session.
            biased;
            () = target.grant.revoked() => Ok(Opened::NotNow),
            opened = work => opened,
        }
    }

    /// Waits for the server's answer, for as long as the client may be held; `None` if the client leaves. A server that takes
    /// longer than `connect_timeout` delays no other client meanwhile. What the client sends then is appended to `bytes`.
    ///
    /// # Errors
    /// If the connection breaks or ends, or the hold does.
    async fn answer(
        &self,
        (server, answer): (&mut TcpStream, &mut Vec<u8>),
        permit: &mut Option<Permit>,
        (client, bytes, hold): (&TcpStream, &mut Vec<u8>, &Hold<'_>),
    ) -> io::Result<Option<FirstAnswer>> {
        let reading = first_answer::read(server, self.read_buffer(), answer);
        if let Ok(answered) = timeout(self.settings.connect_timeout, reading).await {
            return answered.map(Some);
        }
        *permit = None;
        tokio::select! {
            biased;
            answered = first_answer::read(server, self.read_buffer(), answer) => answered.map(Some),
            () = hold::left(client, bytes) => Ok(None),
            () = hold.expired() => Err(io::Error::new(io::ErrorKind::TimedOut, NO_ANSWER)),
        }
    }

    async fn reject(&self, client: TcpStream, packet: &FirstPacket, rejection: Rejection) {
        debug!(peer = %self.accepted.peer, route = self.accepted.route.code(), %rejection, "client rejected");
        self.context.count(&self.accepted, &rejection);
        log::rejected(self.shared(), &self.progress, rejection.kind);
        rejection.send(client, packet).await;
    }
}

impl Connected {
    /// The session. Its sockets leave the tokio runtime, and its relay begins with the server's answer.
    fn into_session(
        self,
        accepted: AcceptedClient,
        client: TcpStream,
        opening: ReceivedPacket,
        record: Box<SessionRecord>,
    ) -> io::Result<Session> {
        let Self { admitted: Admitted { target, guard, permit }, server, answer } = self;
        let boundary = match opening.packet {
            FirstPacket::StartupMessage(_) => Boundary::messages(),
            FirstPacket::SslRequest | FirstPacket::GssEncRequest => Boundary::negotiating(),
            FirstPacket::CancelRequest | FirstPacket::DirectTls => Boundary::unknown(),
        };
        let sockets = [client.into_std()?, server.into_std()?];
        let counters = Arc::clone(target.sessions.counters());
        let login = Login::new(permit, Instant::now() + SETTLING, (counters, guard.counters.clone()));
        let streams = (boundary, [opening.into_rest(), answer]);
        let relay = Relay::new(sockets, target.grant, streams, (record, login));
        Ok(Session { accepted, target: guard, relay })
    }
}
