//! The relay: copies bytes between a client and a server until one of them closes, or the grant is revoked.
//!
//! It reads into a scratch buffer that all sessions of a worker share, and writes at once. Only what the other side did
//! not take is kept. So an idle session needs no buffer, and no timer either.
//!
//! A relay never blocks. Its worker passes it epoll's events and advances it. Epoll is edge-triggered, so the relay
//! remembers which socket may be readable and which writable.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use pg_leader_proxy_core::Moment;

use super::boundary::Boundary;
use super::direction::{Direction, DirectionState, Stop};
use super::login::Login;
use super::record::SessionRecord;
use super::scratch::Scratch;
use super::termination;
use crate::admission::Grant;
use crate::clock;
use crate::net;

/// How long after the last byte of an encrypted answer a session counts as idle.
const QUIET: Duration = Duration::from_secs(1);

/// How a relay ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The server closed the connection after its last byte, or both sides did.
    Finished,
    /// The grant was revoked, or expired and was not extended.
    Terminated,
    /// An operator ended this session.
    TerminatedByOperator,
    /// The client's connection broke.
    ClientFailed(io::Error),
    /// The server's connection broke.
    ServerFailed(io::Error),
}

/// What an advanced relay waits for.
#[derive(Debug)]
pub(crate) enum Progress {
    /// For one of its sockets.
    Blocked,
    /// To be advanced again: there is more to do, but other sessions run first.
    Unfinished,
    /// For control to extend or revoke the grant, which has expired.
    GrantExpired,
    /// For nothing: the session has ended.
    Ended(End),
}

/// One of the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// A client, a server, and the two directions between them.
pub(crate) struct Relay {
    client: TcpStream,
    server: TcpStream,
    grant: Arc<Grant>,
    to_server: Direction,
    to_client: Direction,
    boundary: Boundary,
    /// `None` once the session has settled and its client has logged in.
    login: Option<Box<Login>>,
    /// What is told about the session. Boxed, and here beside the rest, for its size.
    pub(super) record: Box<SessionRecord>,
    write_interest: bool,
}

impl Relay {
    /// A relay to a server that has received the client's first packet. The `rest` of what the client has sent was already
    /// read, and so were the first bytes of the server's answer; `boundary` is the position at which these begin.
    pub(super) fn new(
        [client, server]: [std::net::TcpStream; 2],
        grant: Arc<Grant>,
        (mut boundary, [rest, answer]): (Boundary, [Vec<u8>; 2]),
        (record, login): (Box<SessionRecord>, Box<Login>),
    ) -> Self {
        boundary.follow(&answer);
        let [client, server] = [client, server].map(TcpStream::from_std);
        let mut to_server = Direction::new(rest);
        // The first packet was sent already.
        to_server.last_byte_at = Some(clock::now());
        let (to_client, login) = (Direction::new(answer), Some(login));
        Self { client, server, grant, to_server, to_client, boundary, login, record, write_interest: false }
    }

    /// Registers the sockets with epoll for reading. Hardly any session ever waits to write, so that is added on demand.
    ///
    /// # Errors
    /// Epoll's error, when the operating system has no memory left.
    pub(crate) fn register(&mut self, registry: &Registry, tokens: [Token; 2]) -> io::Result<()> {
        let interest = Interest::READABLE;
        let interest = if self.write_interest { interest | Interest::WRITABLE } else { interest };
        for (socket, token) in [&mut self.client, &mut self.server].into_iter().zip(tokens) {
            registry.register(socket, token, interest)?;
        }
        Ok(())
    }

    /// Removes the sockets from epoll, so that another worker's can watch them.
    ///
    /// # Errors
    /// Epoll's error.
    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.client)?;
        registry.deregister(&mut self.server)
    }

    /// A write would block and EPOLLOUT is not armed.
    pub(crate) const fn needs_write_interest(&self) -> bool {
        !(self.write_interest || self.to_server.may_write && self.to_client.may_write)
    }

    /// Registers the sockets with epoll for writing too (EPOLLOUT).
    ///
    /// # Errors
    /// Epoll's error.
    pub(crate) fn add_write_interest(&mut self, registry: &Registry, tokens: [Token; 2]) -> io::Result<()> {
        for (socket, token) in [&mut self.client, &mut self.server].into_iter().zip(tokens) {
            registry.reregister(socket, token, Interest::READABLE | Interest::WRITABLE)?;
        }
        self.write_interest = true;
        Ok(())
    }

    /// The grant of the session.
    pub(crate) const fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// Whether the session is idle at `now`: no transaction is open, and the server has answered everything and waits for
    /// the next query. For encrypted bytes, silence stands for that.
    pub(crate) fn is_idle(&self, now: Moment) -> bool {
        let last = self.to_client.last_byte_at;
        let waits = match self.boundary.is_unknown() {
            true => last.is_some_and(|last| now.since(last) >= QUIET),
            false => self.boundary.ends_idle(),
        };
        waits
            && self.to_client.has_sent_all()
            && self.to_server.has_sent_all()
            && last >= self.to_server.last_byte_at
    }

    /// When the session counts as settled, whether its client has logged in or not; `None` once it is settled.
    pub(crate) fn settles_at(&self) -> Option<Instant> {
        self.login.as_ref().and_then(|login| login.settles_at())
    }

    /// Marks the session as settled and returns the permit, so that a slow login does not delay other clients.
    pub(crate) fn settle(&mut self) {
        self.login.iter_mut().for_each(|login| login.settle());
        self.login.take_if(|login| login.is_over());
    }

    /// Records an epoll event of one of the sockets.
    pub(crate) fn record_event(&mut self, side: Side, event: &Event) {
        let (from, to) = match side {
            Side::Client => (&mut self.to_server, &mut self.to_client),
            Side::Server => (&mut self.to_client, &mut self.to_server),
        };
        // The next read or write returns the error.
        let failed = event.is_error();
        from.ending |= failed || event.is_read_closed();
        from.may_read |= from.ending || event.is_readable();
        to.may_write |= failed || event.is_writable() || event.is_write_closed();
    }

    /// Forwards the available bytes, for at most this many rounds in each direction.
    ///
    /// An expired grant stops the bytes at once but does not end the session yet: control may have been suspended with this
    /// process, and is about to extend or revoke the grant.
    pub(crate) fn advance(&mut self, scratch: &mut Scratch, rounds: usize) -> Progress {
        if self.grant.is_revoked() {
            return Progress::Ended(End::Terminated);
        }
        let Self { client, server, grant, to_server, to_client, boundary, login, .. } = self;
        let mut unfinished = false;
        if !to_server.closed {
            match to_server.advance((client, server), grant, (scratch, &mut Boundary::unknown()), rounds) {
                Ok(DirectionState::Blocked) => {}
                Ok(DirectionState::Unfinished) => unfinished = true,
                Ok(DirectionState::Done) => {
                    // A client may shut down its half and still read answers. If the server closed first, this fails, which
                    // is fine.
                    let _ = server.shutdown(Shutdown::Write);
                    to_server.closed = true;
                }
                Err(Stop::GrantExpired) => return Progress::GrantExpired,
                Err(Stop::Source(error)) => return Progress::Ended(End::ClientFailed(error)),
                // A server that takes no more bytes may have sent the reason, which is still to be read.
                Err(Stop::Sink(_)) => to_server.closed = true,
            }
        }
        let state = to_client.advance((server, client), grant, (scratch, boundary), rounds);
        if let Some(watched) = login {
            if to_client.bytes_passed > 0 {
                watched.record_first_byte(clock::now());
            }
            match boundary.logged_in_or_unknown() {
                true => watched.finish(!boundary.is_unknown()),
                false => watched.set_turn(to_server.last_byte_at > to_client.last_byte_at),
            }
            login.take_if(|login| login.is_over());
        }
        match state {
            Ok(DirectionState::Blocked) if !unfinished => Progress::Blocked,
            Ok(DirectionState::Blocked | DirectionState::Unfinished) => Progress::Unfinished,
            // A server that has closed its half takes no more bytes either, so the session ends.
            Ok(DirectionState::Done) => Progress::Ended(End::Finished),
            Err(Stop::GrantExpired) => Progress::GrantExpired,
            Err(Stop::Source(error)) => Progress::Ended(End::ServerFailed(error)),
            Err(Stop::Sink(error)) => Progress::Ended(End::ClientFailed(error)),
        }
    }

    /// Ends the session at once. Its client is told `error`, where it can be told anything.
    pub(super) fn terminate(self, error: impl FnOnce(&Grant) -> Vec<u8>) {
        // A command that the server has not answered may have been executed: an error would misreport its outcome.
        let answered =
            !self.boundary.ends_with_ready() || self.to_client.last_byte_at >= self.to_server.last_byte_at;
        let told = answered
            && self.to_client.has_sent_all_followed()
            && termination::tell([&self.client, &self.server], &self.boundary, || error(&self.grant));
        net::reset_on_close(&self.server);
        if !told {
            net::reset_on_close(&self.client);
        }
    }

    /// Whether the server ended the session: while its client was still there, or with an error as its last message, after
    /// which the client may close first.
    ///
    /// If the client closed first, the server only follows. Under TLS it does so with a reset, because it does not read the
    /// client's last TLS record.
    pub(crate) const fn server_ended(&self, end: &End) -> bool {
        match end {
            End::Finished | End::ServerFailed(_) => !self.to_server.at_end || self.boundary.ends_with_error(),
            End::ClientFailed(_) => self.boundary.ends_with_error(),
            End::Terminated | End::TerminatedByOperator => false,
        }
    }

    /// How many bytes were sent to the server and to the client.
    pub(crate) const fn bytes_passed(&self) -> [u64; 2] {
        [self.to_server.bytes_passed, self.to_client.bytes_passed]
    }

    /// The port of this machine on the connection to the server, while that is open.
    pub(super) fn server_port(&self) -> Option<u16> {
        self.server.local_addr().ok().map(|addr| addr.port())
    }

    /// When the last byte was sent in either direction.
    pub(super) fn active_at(&self) -> Option<Moment> {
        self.to_server.last_byte_at.max(self.to_client.last_byte_at)
    }

    /// When the last byte was sent to the client.
    pub(crate) const fn last_byte_at(&self) -> Option<Moment> {
        self.to_client.last_byte_at
    }
}
