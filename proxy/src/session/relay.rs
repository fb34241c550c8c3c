//! The relay: copies bytes between a client and a server until one of them closes, or the grant is revoked.
//!
//! It reads into a scratch buffer that all sessions of a worker share, and writes at once. Only what the other side did
//! not take is kept. So an idle session needs no buffer, and no timer either.
//!
//! A relay never blocks. Its worker passes it epoll's events and advances it. Epoll is edge-triggered, so the relay
//! remembers which socket may be readable and which writable.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use pg_leader_proxy_core::Moment;

use super::boundary::Boundary;
use super::scratch::{BufferPool, Scratch};
use crate::admission::{Grant, Permit};
use crate::clock;
use crate::net;
use crate::wire::{self, SqlState};

/// How many times a direction may fill the scratch buffer before other sessions run.
const ROUNDS: usize = 8;
/// How long after the last byte of an encrypted answer a session counts as idle.
const QUIET: Duration = Duration::from_secs(1);

/// How a relay ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The server closed the connection after its last byte, or both sides did.
    Finished,
    /// The grant was revoked, or expired and was not extended.
    Terminated,
    /// The client's connection broke.
    ClientFailed(io::Error),
    /// The server's connection broke.
    ServerFailed(io::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("closed by the server"),
            Self::Terminated => f.write_str("terminated"),
            Self::ClientFailed(error) => write!(f, "the client's connection broke: {error}"),
            Self::ServerFailed(error) => write!(f, "the server's connection broke: {error}"),
        }
    }
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
    /// The gate's permit, kept while the client logs in.
    permit: Option<Permit>,
    settles_at: Option<Instant>,
    write_interest: bool,
}

/// One direction.
#[derive(Debug)]
struct Direction {
    /// What was read but not taken by the other side. Not allocated while it is empty.
    unsent: Vec<u8>,
    /// How many of these bytes were sent since. 32 bits are enough, because they all fit into the scratch buffer.
    sent: u32,
    /// The source may be readable. Epoll reports that for a newly registered socket.
    may_read: bool,
    /// The source is closing: its end may follow directly after bytes that do not fill the buffer.
    ending: bool,
    /// The sink may be writable.
    may_write: bool,
    at_end: bool,
    /// The sink was shut down, or takes no more bytes.
    closed: bool,
    bytes_passed: u64,
    last_byte_at: Option<Moment>,
}

/// The state of a direction after it was advanced.
enum DirectionState {
    /// It waits for its source or sink.
    Blocked,
    /// It has used up its rounds.
    Unfinished,
    /// The source has ended, and all bytes were sent.
    Done,
}

/// Why a direction stopped.
enum Stop {
    GrantExpired,
    Source(io::Error),
    Sink(io::Error),
}

impl Relay {
    /// A relay to a server that has received the client's first packet. The first bytes of the server's answer were
    /// already read; `boundary` is the position at which they begin.
    ///
    /// The relay keeps the gate's permit until the client has logged in, if that is visible, or until the given moment. A
    /// login is the most expensive part of a session for both sides, so the clients that waited must not all log in at
    /// once.
    pub(crate) fn new(
        [client, server]: [std::net::TcpStream; 2],
        grant: Arc<Grant>,
        (mut boundary, answer): (Boundary, Vec<u8>),
        permit: (Permit, Instant),
    ) -> Self {
        boundary.follow(&answer);
        let [client, server] = [client, server].map(TcpStream::from_std);
        let (to_server, to_client) = (Direction::new(Vec::new()), Direction::new(answer));
        let (permit, settles_at) = (Some(permit.0), Some(permit.1));
        let write_interest = false;
        Self { client, server, grant, to_server, to_client, boundary, permit, settles_at, write_interest }
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

    /// Whether the session is idle at `now`: the server has answered everything and waits for the next query. For encrypted
    /// bytes, silence stands for that.
    pub(crate) fn is_idle(&self, now: Moment) -> bool {
        let last = self.to_client.last_byte_at;
        let waits = match self.boundary.is_unknown() {
            true => last.is_some_and(|last| now.since(last) >= QUIET),
            false => self.boundary.ends_with_ready(),
        };
        let nothing_unsent = self.to_client.unsent.is_empty() && self.to_server.unsent.is_empty();
        waits && nothing_unsent && last >= self.to_server.last_byte_at
    }

    /// When the session counts as settled, whether its client has logged in or not; `None` once it is settled.
    pub(crate) const fn settles_at(&self) -> Option<Instant> {
        self.settles_at
    }

    /// Marks the session as settled and returns the permit, so that a slow login does not delay other clients.
    pub(crate) fn settle(&mut self) {
        self.permit = None;
        self.settles_at = None;
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

    /// Forwards the available bytes, for a limited number of rounds.
    ///
    /// An expired grant stops the bytes at once but does not end the session yet: control may have been suspended with this
    /// process, and is about to extend or revoke the grant.
    pub(crate) fn advance(&mut self, scratch: &mut Scratch) -> Progress {
        if self.grant.is_revoked() {
            return Progress::Ended(End::Terminated);
        }
        let Self { client, server, grant, to_server, to_client, boundary, permit, .. } = self;
        let mut unfinished = false;
        if !to_server.closed {
            match to_server.advance((client, server), grant, (scratch, &mut Boundary::unknown())) {
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
        let state = to_client.advance((server, client), grant, (scratch, boundary));
        if boundary.logged_in_or_unknown() {
            *permit = None;
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

    /// Resets both connections at once. A plaintext client at a message boundary gets an error with the reason first.
    pub(crate) fn terminate(self) {
        net::reset_on_close(&self.server);
        let (what, why) = match self.grant.disconnect_reason() {
            Some(reason) => ("the server is no longer the leader", reason.to_string()),
            None if self.grant.ends_when_idle() => ("the replica was promoted", String::new()),
            None => ("the server is no longer the leader", "its lease has expired".to_owned()),
        };
        let informed = self.boundary.between_messages() && self.to_client.unsent.is_empty() && {
            let what = format!("terminating connection: {what}");
            let error = wire::fatal(SqlState::AdminShutdown, &what, &why);
            (&self.client).write(&error).is_ok_and(|written| written == error.len())
        };
        if !informed {
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
            End::Terminated => false,
        }
    }

    /// How many bytes were sent to the server and to the client.
    pub(crate) const fn bytes_passed(&self) -> (u64, u64) {
        (self.to_server.bytes_passed, self.to_client.bytes_passed)
    }

    /// When the last byte was sent to the client.
    pub(crate) const fn last_byte_at(&self) -> Option<Moment> {
        self.to_client.last_byte_at
    }
}

impl Direction {
    /// A direction that sends these bytes first.
    const fn new(unsent: Vec<u8>) -> Self {
        Self {
            unsent,
            sent: 0,
            may_read: false,
            ending: false,
            may_write: true,
            at_end: false,
            closed: false,
            bytes_passed: 0,
            last_byte_at: None,
        }
    }

    /// Copies from source to sink until one of them blocks, for at most [`ROUNDS`] rounds.
    fn advance(
        &mut self,
        (mut source, mut sink): (&TcpStream, &TcpStream),
        grant: &Grant,
        (scratch, boundary): (&mut Scratch, &mut Boundary),
    ) -> Result<DirectionState, Stop> {
        let Scratch { buffer, pool } = scratch;
        for _ in 0..ROUNDS {
            if !self.flush(sink, grant, pool)? {
                return Ok(DirectionState::Blocked);
            }
            if self.at_end {
                return Ok(DirectionState::Done);
            }
            if !self.may_read {
                return Ok(DirectionState::Blocked);
            }
            let Some(length) = unless_blocked(source.read(buffer)).map_err(Stop::Source)? else {
                self.may_read = false;
                return Ok(DirectionState::Blocked);
            };
            if length == 0 {
                self.at_end = true;
                continue;
            }
            // A socket that did not fill the buffer is empty, and epoll will report new bytes.
            self.may_read = length == buffer.len() || self.ending;
            let bytes = &buffer[..length];
            boundary.follow(bytes);
            if let Err(stop) = check(grant, &mut self.last_byte_at) {
                pool.keep(&mut self.unsent, bytes);
                return Err(stop);
            }
            let taken = unless_blocked(sink.write(bytes)).map_err(Stop::Sink)?;
            self.may_write = taken.is_some();
            let taken = taken.unwrap_or(0);
            self.bytes_passed += taken as u64;
            pool.keep(&mut self.unsent, &bytes[taken..]);
        }
        Ok(DirectionState::Unfinished)
    }

    /// Sends what was left over; `false` if the sink does not take all of it.
    fn flush(&mut self, mut sink: &TcpStream, grant: &Grant, pool: &mut BufferPool) -> Result<bool, Stop> {
        while let unsent = &self.unsent[self.sent as usize..]
            && !unsent.is_empty()
        {
            if !self.may_write {
                return Ok(false);
            }
            check(grant, &mut self.last_byte_at)?;
            let taken = unless_blocked(sink.write(unsent)).map_err(Stop::Sink)?;
            self.may_write = taken.is_some();
            let taken = taken.unwrap_or(0);
            self.sent += taken as u32;
            self.bytes_passed += taken as u64;
        }
        if self.sent > 0 {
            pool.give_back(std::mem::take(&mut self.unsent));
            self.sent = 0;
        }
        Ok(true)
    }
}

/// `None` if the socket would block.
fn unless_blocked(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Checks the grant. Every byte that is forwarded was checked by this.
fn check(grant: &Grant, last_byte_at: &mut Option<Moment>) -> Result<(), Stop> {
    let now = clock::now();
    if !grant.allows(now) {
        return Err(Stop::GrantExpired);
    }
    *last_byte_at = Some(now);
    Ok(())
}
