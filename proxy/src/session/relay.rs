//! The relay: copies bytes between a client and a server until one of them ends, or the pass is revoked.
//!
//! It reads into one scratch buffer that all sessions of a worker share and writes at once; only what the other side
//! did not take is kept. An idle session therefore owns no buffer, and no timer either.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use pg_leader_proxy_core::Moment;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio::time::{sleep, timeout};

use super::boundary::Boundary;
use super::scratch::{Scratch, SharedScratch, Spares};
use crate::clock;
use crate::gate::Entry;
use crate::net;
use crate::pass::Pass;
use crate::wire::{self, SqlState};

/// How many times a direction may fill the scratch buffer before other sessions get their turn.
const ROUNDS: usize = 8;

/// How long a login may keep its entry of the gate.
const LOGIN_WAIT: Duration = Duration::from_millis(100);
/// How long a session waits for control to decide about a pass that has run out; control does so at that very moment.
const PASS_WAIT: Duration = Duration::from_secs(2);
/// How often it looks meanwhile.
const PASS_LOOK: Duration = Duration::from_millis(5);

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
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// What was read but not taken by the other side; no allocation while it is empty.
    unsent: Vec<u8>,
    /// How many of these went out since; half a word, since they all fit into the scratch buffer.
    sent: u32,
    at_end: bool,
    /// The other side was told of the end, or takes no more.
    closed: bool,
    passed: u64,
    last_passed: Option<Moment>,
}

/// Why the bytes stopped for now.
enum Pause {
    Ended(End),
    PassRanOut,
}

/// Why a direction stopped.
enum Stop {
    PassRanOut,
    Source(io::Error),
    Sink(io::Error),
}

impl Relay {
    /// Joins a client to a server that has its first packet.
    pub(crate) fn new(client: TcpStream, server: TcpStream, pass: Arc<Pass>) -> Self {
        let (to_server, to_client) = (Flow::default(), Flow::default());
        Self { client, server, pass, to_server, to_client, boundary: Boundary::unknown(), entry: None }
    }

    /// Bytes that came from the server before the relay began, and where in its stream they begin.
    pub(crate) fn with_answer(mut self, mut boundary: Boundary, bytes: Vec<u8>) -> Self {
        boundary.follow(&bytes);
        self.boundary = boundary;
        self.to_client.unsent = bytes;
        self
    }

    /// Keeps the gate's entry until the client has logged in, where that can be seen, so that not all who waited for
    /// a leader log in at once: it is the login that costs both sides the most.
    pub(crate) fn with_entry(mut self, entry: Entry) -> Self {
        self.entry = Some(entry);
        self
    }

    /// Relays while the client logs in, but no longer than a moment: one that takes its time keeps nobody waiting. An end
    /// if it came that early.
    pub(crate) async fn log_in(&mut self, scratch: &SharedScratch) -> Option<End> {
        let end = timeout(LOGIN_WAIT, self.run(scratch)).await.ok();
        self.entry = None;
        end
    }

    /// Relays until the end.
    ///
    /// A pass that has run out stops the bytes at once, but does not yet end the session: control, which may have been
    /// suspended with us, is about to extend the pass or to revoke it.
    ///
    /// One function and no more, because each that is waited in keeps room of its own in every session.
    pub(crate) async fn run(&mut self, scratch: &SharedScratch) -> End {
        let pass = Arc::clone(&self.pass);
        // Without a budget: it is polled once and must have registered then.
        let mut revoked = pin!(unconstrained(pass.revoked()));
        let mut registered: Option<Waker> = None;
        loop {
            let pause = poll_fn(|cx| {
                if !registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    if revoked.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Pause::Ended(End::Severed));
                    }
                    registered = Some(cx.waker().clone());
                }
                self.poll(cx, scratch)
            });
            match pause.await {
                Pause::Ended(end) => return end,
                // In a box, because it is rare.
                Pause::PassRanOut => {
                    if Box::pin(timeout(PASS_WAIT, self.decision())).await.is_err() {
                        return End::Severed;
                    }
                }
            }
        }
    }

    /// Resolves once control has extended the pass or revoked it.
    async fn decision(&self) {
        while !self.pass.is_revoked() && !self.pass.allows(clock::now()) {
            sleep(PASS_LOOK).await;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, scratch: &SharedScratch) -> Poll<Pause> {
        if self.pass.is_revoked() {
            return Poll::Ready(Pause::Ended(End::Severed));
        }
        let mut scratch = scratch.borrow_mut();
        let Self { client, server, pass, to_server, to_client, boundary, entry } = self;
        let mut ignore = Boundary::unknown();
        if !to_server.closed {
            let ends = (Pin::new(&mut *client), Pin::new(&mut *server));
            match to_server.poll(cx, ends, pass, (&mut scratch, &mut ignore)) {
                Poll::Pending => {}
                // A client may close its half and still read the answers. The server may have closed first, which is no
                // failure.
                Poll::Ready(Ok(())) => to_server.closed = Pin::new(&mut *server).poll_shutdown(cx).is_ready(),
                Poll::Ready(Err(Stop::PassRanOut)) => return Poll::Ready(Pause::PassRanOut),
                Poll::Ready(Err(Stop::Source(error))) => {
                    return Poll::Ready(Pause::Ended(End::ClientBroke(error)));
                }
                // A server that takes no more may have said why: its last words are still to be read.
                Poll::Ready(Err(Stop::Sink(_))) => to_server.closed = true,
            }
        }
        // A server that has said its last word takes no more either, so its end is the end of the session.
        let ends = (Pin::new(server), Pin::new(client));
        let polled = to_client.poll(cx, ends, pass, (&mut scratch, boundary));
        if boundary.logged_in_or_unknown() {
            *entry = None;
        }
        polled.map(|ended| match ended {
            Ok(()) => Pause::Ended(End::Finished),
            Err(Stop::PassRanOut) => Pause::PassRanOut,
            Err(Stop::Source(error)) => Pause::Ended(End::ServerBroke(error)),
            Err(Stop::Sink(error)) => Pause::Ended(End::ClientBroke(error)),
        })
    }

    /// Cuts both connections at once. A plaintext client that has received only whole messages is told why first.
    pub(crate) fn sever(self) {
        net::reset_on_close(&self.server);
        let why =
            self.pass.severance().map_or_else(|| "its lease has run out".to_owned(), ToString::to_string);
        let told = self.boundary.between_messages() && self.to_client.is_flushed() && {
            let error = wire::fatal(
                SqlState::AdminShutdown,
                "terminating connection: the server is no longer the leader",
                &why,
            );
            self.client.try_write(&error).is_ok_and(|written| written == error.len())
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
    const fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Copies from one end to the other until nothing more can be done; ready with `Ok` once all is passed on and no
    /// more will come.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (mut source, mut sink): (Pin<&mut TcpStream>, Pin<&mut TcpStream>),
        pass: &Pass,
        (scratch, boundary): (&mut Scratch, &mut Boundary),
    ) -> Poll<Result<(), Stop>> {
        let Scratch { buffer, spares } = scratch;
        for _ in 0..ROUNDS {
            ready!(self.poll_flush(cx, sink.as_mut(), pass, spares))?;
            if self.at_end {
                return Poll::Ready(Ok(()));
            }
            let mut read = ReadBuf::new(buffer);
            ready!(source.as_mut().poll_read(cx, &mut read)).map_err(Stop::Source)?;
            let bytes = read.filled();
            if bytes.is_empty() {
                self.at_end = true;
                continue;
            }
            boundary.follow(bytes);
            if let Err(stop) = check(pass, &mut self.last_passed) {
                spares.keep(&mut self.unsent, bytes);
                return Poll::Ready(Err(stop));
            }
            let taken = match sink.as_mut().poll_write(cx, bytes) {
                Poll::Ready(taken) => taken.map_err(Stop::Sink)?,
                Poll::Pending => 0,
            };
            self.passed += taken as u64;
            spares.keep(&mut self.unsent, &bytes[taken..]);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        mut sink: Pin<&mut TcpStream>,
        pass: &Pass,
        spares: &mut Spares,
    ) -> Poll<Result<(), Stop>> {
        while let unsent = &self.unsent[self.sent as usize..]
            && !unsent.is_empty()
        {
            check(pass, &mut self.last_passed)?;
            let taken = ready!(sink.as_mut().poll_write(cx, unsent)).map_err(Stop::Sink)?;
            self.sent += taken as u32;
            self.passed += taken as u64;
        }
        if self.sent > 0 {
            spares.give_back(std::mem::take(&mut self.unsent));
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
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
