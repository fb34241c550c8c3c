//! One direction of a relay: copies bytes from one socket to the other until either of them blocks.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use pg_leader_proxy_core::Moment;

use super::boundary::Boundary;
use super::scratch::{BufferPool, Scratch};
use crate::admission::Grant;
use crate::clock;

/// One direction.
#[derive(Debug)]
pub(super) struct Direction {
    /// What was read but not taken by the other side. Not allocated while it is empty.
    unsent: Vec<u8>,
    /// The boundary has not followed these bytes yet, because the grant had ended when they were read: to the other side they
    /// do not exist.
    withheld: bool,
    /// How many of these bytes were sent since. 32 bits are enough, because they all fit into the scratch buffer.
    sent: u32,
    /// The source may be readable. Epoll reports that for a newly registered socket.
    pub(super) may_read: bool,
    /// The source is closing: its end may follow directly after bytes that do not fill the buffer.
    pub(super) ending: bool,
    /// The sink may be writable.
    pub(super) may_write: bool,
    pub(super) at_end: bool,
    /// The sink was shut down, or takes no more bytes.
    pub(super) closed: bool,
    pub(super) bytes_passed: u64,
    pub(super) last_byte_at: Option<Moment>,
}

/// The state of a direction after it was advanced.
pub(super) enum DirectionState {
    /// It waits for its source or sink.
    Blocked,
    /// It has used up its rounds.
    Unfinished,
    /// The source has ended, and all bytes were sent.
    Done,
}

/// Why a direction stopped.
pub(super) enum Stop {
    GrantExpired,
    Source(io::Error),
    Sink(io::Error),
}

impl Direction {
    /// A direction that sends these bytes first.
    pub(super) const fn new(unsent: Vec<u8>) -> Self {
        Self {
            unsent,
            withheld: false,
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

    /// Whether every byte that was read has been sent.
    pub(super) const fn has_sent_all(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Whether every byte that the boundary has followed has been sent.
    pub(super) const fn has_sent_all_followed(&self) -> bool {
        self.has_sent_all() || self.withheld
    }

    /// Copies from source to sink until one of them blocks, for at most this many rounds: in each it fills the scratch
    /// buffer once.
    pub(super) fn advance(
        &mut self,
        (mut source, mut sink): (&TcpStream, &TcpStream),
        grant: &Grant,
        (scratch, boundary): (&mut Scratch, &mut Boundary),
        rounds: usize,
    ) -> Result<DirectionState, Stop> {
        let Scratch { buffer, pool } = scratch;
        for _ in 0..rounds {
            if !self.flush(sink, grant, (pool, boundary))? {
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
                return Ok(DirectionState::Done);
            }
            // A socket that did not fill the buffer is empty, and epoll will report new bytes.
            self.may_read = length == buffer.len() || self.ending;
            let bytes = &buffer[..length];
            if let Err(stop) = check(grant, &mut self.last_byte_at) {
                pool.keep(&mut self.unsent, bytes);
                self.withheld = true;
                return Err(stop);
            }
            boundary.follow(bytes);
            let taken = unless_blocked(sink.write(bytes)).map_err(Stop::Sink)?;
            self.may_write = taken.is_some();
            let taken = taken.unwrap_or(0);
            self.bytes_passed += taken as u64;
            pool.keep(&mut self.unsent, &bytes[taken..]);
        }
        let nothing_to_do = !self.may_read && self.has_sent_all();
        Ok(if nothing_to_do { DirectionState::Blocked } else { DirectionState::Unfinished })
    }

    /// Sends what was left over; `false` if the sink does not take all of it.
    fn flush(
        &mut self,
        mut sink: &TcpStream,
        grant: &Grant,
        (pool, boundary): (&mut BufferPool, &mut Boundary),
    ) -> Result<bool, Stop> {
        while let unsent = &self.unsent[self.sent as usize..]
            && !unsent.is_empty()
        {
            if !self.may_write {
                return Ok(false);
            }
            check(grant, &mut self.last_byte_at)?;
            if std::mem::take(&mut self.withheld) {
                boundary.follow(unsent);
            }
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
