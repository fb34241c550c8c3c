//! A bare epoll loop: the lower bound of what a relay costs. One thread, one read and one write, no checks.
//!
//! It shows how near a proxy is to the limit, and is of no other use: sockets are blocking, so one client that does not read
//! stops all others, the end of one direction ends the session, and nothing checks who leads.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// Bytes per read.
const SCRATCH: usize = 64 * 1024;
/// Events per wait.
const EVENTS: usize = 256;
/// The token of the listening socket. Sessions count from 0.
const LISTENER: u64 = u64::MAX;

/// Relays every connection to `server` until something fails.
///
/// # Errors
/// An error of epoll.
pub fn serve(listener: &TcpListener, server: SocketAddr) -> io::Result<Infallible> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut relay = EpollLoop { epoll, sockets: Vec::new(), free: Vec::new(), closed: Vec::new() };
    let mut scratch = vec![0; SCRATCH];
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&relay.epoll, spare_capacity(&mut events), None) {
            Err(Errno::INTR) => continue,
            waited => waited?,
        };
        for event in &events {
            match event.data.u64() {
                LISTENER => relay.accept(listener, server),
                slot => relay.relay(usize::try_from(slot).unwrap_or(usize::MAX), &mut scratch),
            }
        }
        // Not earlier: an event of this batch may belong to a session that was closed just now.
        relay.free.append(&mut relay.closed);
    }
}

struct EpollLoop {
    epoll: OwnedFd,
    /// A client in each even slot, its server in the odd one after it.
    sockets: Vec<Option<TcpStream>>,
    /// Even slots that are free.
    free: Vec<usize>,
    closed: Vec<usize>,
}

impl EpollLoop {
    fn accept(&mut self, listener: &TcpListener, server: SocketAddr) {
        let Ok((client, _)) = listener.accept() else { return };
        let Ok(server) = TcpStream::connect(server) else { return };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.sockets.extend([None, None]);
            self.sockets.len() - 2
        });
        for (slot, socket) in (slot..).zip([client, server]) {
            let data = EventData::new_u64(slot as u64);
            let watched = socket.set_nodelay(true).is_ok()
                && epoll::add(&self.epoll, &socket, data, EventFlags::IN).is_ok();
            if !watched {
                return self.close(slot & !1);
            }
            self.sockets[slot] = Some(socket);
        }
    }

    fn relay(&mut self, slot: usize, scratch: &mut [u8]) {
        let (Some(Some(from)), Some(Some(to))) = (self.sockets.get(slot), self.sockets.get(slot ^ 1)) else {
            return;
        };
        let (mut from, mut to) = (from, to);
        let relayed = from.read(scratch).and_then(|length| to.write_all(&scratch[..length]).map(|()| length));
        if !relayed.is_ok_and(|length| length > 0) {
            self.close(slot & !1);
        }
    }

    /// Closing a socket removes it from epoll.
    fn close(&mut self, slot: usize) {
        self.sockets[slot] = None;
        self.sockets[slot + 1] = None;
        self.closed.push(slot);
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
    fn every_session_is_relayed_also_in_a_slot_that_was_used_before() {
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
