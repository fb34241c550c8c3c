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
use super::scratch::{Scratch, Spares};
use crate::clock;
use crate::gate::Entry;
use crate::net;
use crate::pass::Pass;
use crate::wire::{self, SqlState};

/// How many times a direction may fill the scratch buffer before other sessions get their turn.
const ROUNDS: usize = 8;

/// How a relay ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The server closed the connection after its last byte, or both sides did.
    Finished,
    /// The pass was revoked, or ran out and nobody extended it.
    Severed,
    /// The client's connection broke.
    ClientBroke(io::Error),
    /// The server's connection broke.
    ServerBroke(io::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("the server closed it"),
            Self::Severed => f.write_str("severed"),
            Self::ClientBroke(error) => write!(f, "the client's connection broke: {error}"),
            Self::ServerBroke(error) => write!(f, "the server's connection broke: {error}"),
        }
    }
}

/// What a relay that has advanced waits for.
#[derive(Debug)]
pub(crate) enum Progress {
    /// For one of its sockets.
    Waits,
    /// For its next turn: there is more to do, but others have waited long enough.
    Unfinished,
    /// For control to extend or to revoke the pass, which has run out.
    PassRanOut,
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
    pass: Arc<Pass>,
    to_server: Flow,
    to_client: Flow,
    boundary: Boundary,
    /// Held while the client logs in.
    entry: Option<Entry>,
    settles_at: Option<Instant>,
    watches_writing: bool,
}

/// One direction.
#[derive(Debug)]
struct Flow {
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
    passed: u64,
    last_passed: Option<Moment>,
}

/// How far a direction came.
enum Course {
    /// It waits for its source or its sink.
    Waits,
    /// It has had its rounds.
    Unfinished,
    /// All is passed on and no more will come.
    Done,
}

/// Why a direction stopped.
enum Stop {
    PassRanOut,
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
        pass: Arc<Pass>,
        (mut boundary, answer): (Boundary, Vec<u8>),
        entry: (Entry, Instant),
    ) -> Self {
        boundary.follow(&answer);
        let [client, server] = [client, server].map(TcpStream::from_std);
        let (to_server, to_client) = (Flow::new(Vec::new()), Flow::new(answer));
        let (entry, settles_at) = (Some(entry.0), Some(entry.1));
        let watches_writing = false;
        Self { client, server, pass, to_server, to_client, boundary, entry, settles_at, watches_writing }
    }

    /// Has epoll tell when the sockets have bytes. Hardly any session ever waits to write, so it is asked about that later.
    ///
    /// # Errors
    /// What epoll says: the operating system has no memory left for it.
    pub(crate) fn register(&mut self, registry: &Registry, tokens: [Token; 2]) -> io::Result<()> {
        let interest = Interest::READABLE;
        let interest = if self.watches_writing { interest | Interest::WRITABLE } else { interest };
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
    pub(crate) const fn is_stuck(&self) -> bool {
        !(self.watches_writing || self.to_server.may_write && self.to_client.may_write)
    }

    /// Has epoll tell also when the sockets take bytes, from now on.
    ///
    /// # Errors
    /// What epoll says.
    pub(crate) fn watch_writing(&mut self, registry: &Registry, tokens: [Token; 2]) -> io::Result<()> {
        for (socket, token) in [&mut self.client, &mut self.server].into_iter().zip(tokens) {
            registry.reregister(socket, token, Interest::READABLE | Interest::WRITABLE)?;
        }
        self.watches_writing = true;
        Ok(())
    }

    /// The right by which it passes bytes.
    pub(crate) const fn pass(&self) -> &Arc<Pass> {
        &self.pass
    }

    /// When the session counts as settled, whether its client has logged in or not; nothing once it does.
    pub(crate) const fn settles_at(&self) -> Option<Instant> {
        self.settles_at
    }

    /// Counts it as settled: a client that takes its time for a login keeps nobody waiting.
    pub(crate) fn settle(&mut self) {
        self.entry = None;
        self.settles_at = None;
    }

    /// Takes note of what epoll said of one of the sockets.
    pub(crate) fn note(&mut self, side: Side, event: &Event) {
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
        if self.pass.is_revoked() {
            return Progress::Ended(End::Severed);
        }
        let Self { client, server, pass, to_server, to_client, boundary, entry, .. } = self;
        let mut unfinished = false;
        if !to_server.closed {
            match to_server.advance((client, server), pass, (scratch, &mut Boundary::unknown())) {
                Ok(Course::Waits) => {}
                Ok(Course::Unfinished) => unfinished = true,
                Ok(Course::Done) => {
                    // A client may close its half and still read the answers. The server may have closed first, which is no
                    // failure.
                    let _ = server.shutdown(Shutdown::Write);
                    to_server.closed = true;
                }
                Err(Stop::PassRanOut) => return Progress::PassRanOut,
                Err(Stop::Source(error)) => return Progress::Ended(End::ClientBroke(error)),
                // A server that takes no more may have said why: its last words are still to be read.
                Err(Stop::Sink(_)) => to_server.closed = true,
            }
        }
        let course = to_client.advance((server, client), pass, (scratch, boundary));
        if boundary.logged_in_or_unknown() {
            *entry = None;
        }
        match course {
            Ok(Course::Waits) if !unfinished => Progress::Waits,
            Ok(Course::Waits | Course::Unfinished) => Progress::Unfinished,
            // A server that has said its last word takes no more either, so its end is the end of the session.
            Ok(Course::Done) => Progress::Ended(End::Finished),
            Err(Stop::PassRanOut) => Progress::PassRanOut,
            Err(Stop::Source(error)) => Progress::Ended(End::ServerBroke(error)),
            Err(Stop::Sink(error)) => Progress::Ended(End::ClientBroke(error)),
        }
    }

    /// Cuts both connections at once. A plaintext client that has received only whole messages is told why first.
    pub(crate) fn sever(self) {
        net::reset_on_close(&self.server);
        let why =
            self.pass.severance().map_or_else(|| "its lease has run out".to_owned(), ToString::to_string);
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
            End::Finished | End::ServerBroke(_) => !self.to_server.at_end || self.boundary.ends_with_error(),
            End::ClientBroke(_) => self.boundary.ends_with_error(),
            End::Severed => false,
        }
    }

    /// Bytes that went to the server and to the client.
    pub(crate) const fn passed(&self) -> (u64, u64) {
        (self.to_server.passed, self.to_client.passed)
    }

    /// When the last byte went to the client.
    pub(crate) const fn last_passed(&self) -> Option<Moment> {
        self.to_client.last_passed
    }
}

impl Flow {
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
            passed: 0,
            last_passed: None,
        }
    }

    /// Copies from one end to the other until nothing more can be done, or for so many rounds.
    fn advance(
        &mut self,
        (mut source, mut sink): (&TcpStream, &TcpStream),
        pass: &Pass,
        (scratch, boundary): (&mut Scratch, &mut Boundary),
    ) -> Result<Course, Stop> {
        let Scratch { buffer, spares } = scratch;
        for _ in 0..ROUNDS {
            if !self.flush(sink, pass, spares)? {
                return Ok(Course::Waits);
            }
            if self.at_end {
                return Ok(Course::Done);
            }
            if !self.may_read {
                return Ok(Course::Waits);
            }
            let Some(length) = unless_blocked(source.read(buffer)).map_err(Stop::Source)? else {
                self.may_read = false;
                return Ok(Course::Waits);
            };
            if length == 0 {
                self.at_end = true;
                continue;
            }
            // A socket that did not fill the buffer is empty, and epoll will speak of what comes.
            self.may_read = length == buffer.len() || self.ending;
            let bytes = &buffer[..length];
            boundary.follow(bytes);
            if let Err(stop) = check(pass, &mut self.last_passed) {
                spares.keep(&mut self.unsent, bytes);
                return Err(stop);
            }
            let taken = unless_blocked(sink.write(bytes)).map_err(Stop::Sink)?;
            self.may_write = taken.is_some();
            let taken = taken.unwrap_or(0);
            self.passed += taken as u64;
            spares.keep(&mut self.unsent, &bytes[taken..]);
        }
        Ok(Course::Unfinished)
    }

    /// Sends what was left over; `false` when the sink does not take all of it.
    fn flush(&mut self, mut sink: &TcpStream, pass: &Pass, spares: &mut Spares) -> Result<bool, Stop> {
        while let unsent = &self.unsent[self.sent as usize..]
            && !unsent.is_empty()
        {
            if !self.may_write {
                return Ok(false);
            }
            check(pass, &mut self.last_passed)?;
            let taken = unless_blocked(sink.write(unsent)).map_err(Stop::Sink)?;
            self.may_write = taken.is_some();
            let taken = taken.unwrap_or(0);
            self.sent += taken as u32;
            self.passed += taken as u64;
        }
        if self.sent > 0 {
            spares.give_back(std::mem::take(&mut self.unsent));
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
fn check(pass: &Pass, last_passed: &mut Option<Moment>) -> Result<(), Stop> {
    let now = clock::now();
    if !pass.allows(now) {
        return Err(Stop::PassRanOut);
    }
    *last_passed = Some(now);
    Ok(())
}
