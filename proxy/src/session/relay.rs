//! The relay: copies bytes between a client and a server until one of them ends, or the pass is revoked.
//!
//! It reads into one scratch buffer that all sessions of a worker share and writes at once; only what the other side
//! did not take is kept. An idle session therefore owns no buffer, and no timer either.
//!
//! A relay never waits. Its worker tells it what epoll said of its sockets and asks it to advance; epoll speaks of changes only
//! (edge-triggered), so the relay remembers which socket may have bytes and which may take some.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Instant;

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

/// How many times a direction may fill the scratch buffer before other sessions get their turn.
const ROUNDS: usize = 8;

/// How a relay ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The server closed the connection after its last byte, or both sides did.
    Finished,
    /// The pass was revoked, or ran out and nobody extended it.
    Terminated,
    /// The client's connection broke.
    ClientFailed(io::Error),
    /// The server's connection broke.
    ServerFailed(io::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("the server closed it"),
            Self::Terminated => f.write_str("severed"),
            Self::ClientFailed(error) => write!(f, "the client's connection broke: {error}"),
            Self::ServerFailed(error) => write!(f, "the server's connection broke: {error}"),
        }
    }
}

/// What a relay that has advanced waits for.
#[derive(Debug)]
pub(crate) enum Progress {
    /// For one of its sockets.
    Blocked,
    /// For its next turn: there is more to do, but others have waited long enough.
    Unfinished,
    /// For control to extend or to revoke the pass, which has run out.
    GrantExpired,
    /// For nothing any more.
    Ended(End),
}

/// One of the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// A client and a server, and what is on its way between them.
pub(crate) struct Relay {
    client: TcpStream,
    server: TcpStream,
    grant: Arc<Grant>,
    to_server: Direction,
    to_client: Direction,
    boundary: Boundary,
    /// Held while the client logs in.
    permit: Option<Permit>,
    settles_at: Option<Instant>,
    write_interest: bool,
}

/// One direction.
#[derive(Debug)]
struct Direction {
    /// What was read but not taken by the other side; no allocation while it is empty.
    unsent: Vec<u8>,
    /// How many of these went out since; half a word, since they all fit into the scratch buffer.
    sent: u32,
    /// The source may have bytes. Epoll says so of a socket that it begins to watch.
    may_read: bool,
    /// The source's end is near: it may come right behind bytes that do not fill the buffer.
    ending: bool,
    /// The sink may take bytes.
    may_write: bool,
    at_end: bool,
    /// The sink was told of the end, or takes no more.
    closed: bool,
    bytes_passed: u64,
    last_byte_at: Option<Moment>,
}

/// How far a direction came.
enum DirectionState {
    /// It waits for its source or its sink.
    Blocked,
    /// It has had its rounds.
    Unfinished,
    /// All is passed on and no more will come.
    Done,
}

/// Why a direction stopped.
enum Stop {
    GrantExpired,
    Source(io::Error),
    Sink(io::Error),
}

impl Relay {
    /// Joins a client to a server that has its first packet. The first bytes of the server's answer have been read already;
    /// `boundary` is where in its stream they begin.
    ///
    /// The gate's entry is kept until the client has logged in, where that can be seen, or until this moment, so that not all
    /// who waited for a leader log in at once: it is the login that costs both sides the most.
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

    /// Has epoll tell when the sockets have bytes. Hardly any session ever waits to write, so it is asked about that later.
    ///
    /// # Errors
    /// What epoll says: the operating system has no memory left for it.
    pub(crate) fn register(&mut self, registry: &Registry, tokens: [Token; 2]) -> io::Result<()> {
        let interest = Interest::READABLE;
        let interest = if self.write_interest { interest | Interest::WRITABLE } else { interest };
        for (socket, token) in [&mut self.client, &mut self.server].into_iter().zip(tokens) {
            registry.register(socket, token, interest)?;
        }
        Ok(())
    }

    /// Has epoll forget the sockets, so that another one can watch them.
    ///
    /// # Errors
    /// What epoll says.
    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.client)?;
        registry.deregister(&mut self.server)
    }

    /// Whether a socket takes no more at the moment, of which epoll was not asked to tell when it does.
    pub(crate) const fn needs_write_interest(&self) -> bool {
        !(self.write_interest || self.to_server.may_write && self.to_client.may_write)
    }

    /// Has epoll tell also when the sockets take bytes, from now on.
    ///
    /// # Errors
    /// What epoll says.
    pub(crate) fn add_write_interest(&mut self, registry: &Registry, tokens: [Token; 2]) -> io::Result<()> {
        for (socket, token) in [&mut self.client, &mut self.server].into_iter().zip(tokens) {
            registry.reregister(socket, token, Interest::READABLE | Interest::WRITABLE)?;
        }
        self.write_interest = true;
        Ok(())
    }

    /// The right by which it passes bytes.
    pub(crate) const fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// When the session counts as settled, whether its client has logged in or not; nothing once it does.
    pub(crate) const fn settles_at(&self) -> Option<Instant> {
        self.settles_at
    }

    /// Counts it as settled: a client that takes its time for a login keeps nobody waiting.
    pub(crate) fn settle(&mut self) {
        self.permit = None;
        self.settles_at = None;
    }

    /// Takes note of what epoll said of one of the sockets.
    pub(crate) fn record_event(&mut self, side: Side, event: &Event) {
        let (from, to) = match side {
            Side::Client => (&mut self.to_server, &mut self.to_client),
            Side::Server => (&mut self.to_client, &mut self.to_server),
        };
        // An error shows itself to whoever reads or writes.
        let failed = event.is_error();
        from.ending |= failed || event.is_read_closed();
        from.may_read |= from.ending || event.is_readable();
        to.may_write |= failed || event.is_writable() || event.is_write_closed();
    }

    /// Passes on what there is, but for no longer than is fair.
    ///
    /// A pass that has run out stops the bytes at once, but does not yet end the session: control, which may have been
    /// suspended with us, is about to extend the pass or to revoke it.
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
                    // A client may close its half and still read the answers. The server may have closed first, which is no
                    // failure.
                    let _ = server.shutdown(Shutdown::Write);
                    to_server.closed = true;
                }
                Err(Stop::GrantExpired) => return Progress::GrantExpired,
                Err(Stop::Source(error)) => return Progress::Ended(End::ClientFailed(error)),
                // A server that takes no more may have said why: its last words are still to be read.
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
            // A server that has said its last word takes no more either, so its end is the end of the session.
            Ok(DirectionState::Done) => Progress::Ended(End::Finished),
            Err(Stop::GrantExpired) => Progress::GrantExpired,
            Err(Stop::Source(error)) => Progress::Ended(End::ServerFailed(error)),
            Err(Stop::Sink(error)) => Progress::Ended(End::ClientFailed(error)),
        }
    }

    /// Cuts both connections at once. A plaintext client that has received only whole messages is told why first.
    pub(crate) fn terminate(self) {
        net::reset_on_close(&self.server);
        let why = self
            .grant
            .disconnect_reason()
            .map_or_else(|| "its lease has run out".to_owned(), ToString::to_string);
        let told = self.boundary.between_messages() && self.to_client.unsent.is_empty() && {
            let error = wire::fatal(
                SqlState::AdminShutdown,
                "terminating connection: the server is no longer the leader",
                &why,
            );
            (&self.client).write(&error).is_ok_and(|written| written == error.len())
        };
        if !told {
            net::reset_on_close(&self.client);
        }
    }

    /// Whether it was the server that ended the session: while its client was still there, or with an error as its last
    /// word, at which a client may hang up sooner than the server.
    ///
    /// A server that ends a session which its client has left does as it was told. Under TLS it does so with a reset, since
    /// it does not read the client's last word.
    pub(crate) const fn server_ended(&self, end: &End) -> bool {
        match end {
            End::Finished | End::ServerFailed(_) => !self.to_server.at_end || self.boundary.ends_with_error(),
            End::ClientFailed(_) => self.boundary.ends_with_error(),
            End::Terminated => false,
        }
    }

    /// Bytes that went to the server and to the client.
    pub(crate) const fn bytes_passed(&self) -> (u64, u64) {
        (self.to_server.bytes_passed, self.to_client.bytes_passed)
    }

    /// When the last byte went to the client.
    pub(crate) const fn last_byte_at(&self) -> Option<Moment> {
        self.to_client.last_byte_at
    }
}

impl Direction {
    /// A direction in which these bytes are to go first.
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

    /// Copies from one end to the other until nothing more can be done, or for so many rounds.
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
            // A socket that did not fill the buffer is empty, and epoll will speak of what comes.
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

    /// Sends what was left over; `false` when the sink does not take all of it.
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

/// Nothing when the socket has no bytes, or takes none.
fn unless_blocked(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// No byte passes without this.
fn check(grant: &Grant, last_byte_at: &mut Option<Moment>) -> Result<(), Stop> {
    let now = clock::now();
    if !grant.allows(now) {
        return Err(Stop::GrantExpired);
    }
    *last_byte_at = Some(now);
    Ok(())
}
