//! The floor: what a relay costs at the very least. One thread, epoll, a read and a write; no checks and no safety.
//!
//! It shows how near a proxy is to the limit, and is good for nothing else: sockets stay blocking, so one peer that does
//! not read stops everybody, the end of one half ends the session, and nobody is asked who leads.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// Bytes read at once, for all sessions.
const SCRATCH: usize = 64 * 1024;
/// Events taken at once.
const EVENTS: usize = 256;
/// Marks the listening socket; sessions count from 0.
const LISTENER: u64 = u64::MAX;

/// Relays every connection to `server` until something fails.
///
/// # Errors
/// What epoll says.
pub fn serve(listener: &TcpListener, server: SocketAddr) -> io::Result<Infallible> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut floor = Floor { epoll, ends: Vec::new(), free: Vec::new(), closed: Vec::new() };
    let mut scratch = vec![0; SCRATCH];
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&floor.epoll, spare_capacity(&mut events), None) {
            Err(Errno::INTR) => continue,
            waited => waited?,
        };
        for event in &events {
            match event.data.u64() {
                LISTENER => floor.accept(listener, server),
                place => floor.pass(usize::try_from(place).unwrap_or(usize::MAX), &mut scratch),
            }
        }
        // Not earlier: an event of this batch may still speak of a place that was just closed.
        floor.free.append(&mut floor.closed);
    }
}

struct Floor {
    epoll: OwnedFd,
    /// A client at each even place, its server at the odd one after it.
    ends: Vec<Option<TcpStream>>,
    /// Even places that are free.
    free: Vec<usize>,
    closed: Vec<usize>,
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener, server: SocketAddr) {
        let Ok((client, _)) = listener.accept() else { return };
        let Ok(server) = TcpStream::connect(server) else { return };
        let place = self.free.pop().unwrap_or_else(|| {
            self.ends.extend([None, None]);
            self.ends.len() - 2
        });
        for (place, end) in (place..).zip([client, server]) {
            let data = EventData::new_u64(place as u64);
            let watched =
                end.set_nodelay(true).is_ok() && epoll::add(&self.epoll, &end, data, EventFlags::IN).is_ok();
            if !watched {
                return self.close(place & !1);
            }
            self.ends[place] = Some(end);
        }
    }

    fn pass(&mut self, place: usize, scratch: &mut [u8]) {
        let (Some(Some(from)), Some(Some(to))) = (self.ends.get(place), self.ends.get(place ^ 1)) else {
            return;
        };
        let (mut from, mut to) = (from, to);
        let passed = from.read(scratch).and_then(|length| to.write_all(&scratch[..length]).map(|()| length));
        if !passed.is_ok_and(|length| length > 0) {
            self.close(place & !1);
        }
    }

    /// Closing a socket takes it out of epoll.
    fn close(&mut self, place: usize) {
        self.ends[place] = None;
        self.ends[place + 1] = None;
        self.closed.push(place);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            while let Ok((mut one, _)) = listener.accept() {
                thread::spawn(move || {
                    let mut other = one.try_clone().unwrap();
                    let _ = io::copy(&mut one, &mut other);
                });
            }
        });
        address
    }

    fn client(address: SocketAddr) -> TcpStream {
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(BOUND)).unwrap();
        client
    }

    #[test]
    fn what_goes_in_comes_back_for_every_session_also_in_a_place_that_was_used() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = echo();
        thread::spawn(move || serve(&listener, server));
        for _ in 0..3 {
            let mut clients: Vec<TcpStream> = (0..5).map(|_| client(address)).collect();
            for (number, client) in (0_u8..).zip(&mut clients) {
                client.write_all(&[number; 1000]).unwrap();
            }
            for (number, client) in (0_u8..).zip(&mut clients) {
                let mut bytes = [0; 1000];
                client.read_exact(&mut bytes).unwrap();
                assert_eq!(bytes, [number; 1000]);
            }
        }
    }
}
