//! Acceptors: the listening sockets of one worker, from which it takes clients in turn.

use std::io;
use std::net::{SocketAddr, TcpStream};

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{LISTENERS, Listener, ListenerOwner};
use crate::net::SocketOptions;
use crate::route::RouteKind;
use crate::session::SessionSettings;

/// A connection, and where it comes from.
pub(super) type Client = (TcpStream, SocketAddr);

/// The listening sockets of one worker.
#[derive(Debug)]
pub(super) struct Acceptors {
    settings: watch::Receiver<SessionSettings>,
    sockets: Vec<Acceptor>,
    /// How many there have been.
    adopted: usize,
    /// Where the next look begins: none of the sockets shall starve because another one is never empty.
    next: usize,
}

#[derive(Debug)]
struct Acceptor {
    token: Token,
    /// Epoll says so once, however many there are.
    may_have_clients: bool,
    route: RouteKind,
    addr: SocketAddr,
    socket: TcpListener,
    owner: ListenerOwner,
    /// What the socket was prepared for, and so everybody who is accepted from it.
    options: SocketOptions,
}

impl Acceptor {
    /// The next client, if there is one.
    fn accept(&mut self, options: SocketOptions) -> Option<io::Result<Client>> {
        match self.socket.accept() {
            Ok((client, peer)) => {
                let client = TcpStream::from(client);
                Some(self.apply(&client, options).map(|()| (client, peer)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Makes a client what these settings want.
    fn apply(&mut self, client: &TcpStream, options: SocketOptions) -> io::Result<()> {
        if self.options == options {
            return Ok(());
        }
        // All clients to come get it from the socket; this one came before.
        options.apply(&self.socket)?;
        self.options = options;
        options.apply(client)
    }
}

impl Acceptors {
    pub(super) const fn new(settings: watch::Receiver<SessionSettings>) -> Self {
        Self { settings, sockets: Vec::new(), adopted: 0, next: 0 }
    }

    /// Accepts from this socket as well.
    pub(super) fn add(&mut self, listener: Listener, registry: &Registry) {
        let Listener { route, addr, socket, owner } = listener;
        let options = self.settings.borrow().socket;
        let mut socket = TcpListener::from_std(socket);
        let token = Token(LISTENERS.start + self.adopted % LISTENERS.len());
        let watched =
            options.apply(&socket).and_then(|()| registry.register(&mut socket, token, Interest::READABLE));
        match watched {
            Ok(()) => {
                debug!(route = route.code(), %addr, ?owner, "listening");
                self.adopted += 1;
                let may_have_clients = true;
                self.sockets.push(Acceptor { token, may_have_clients, route, addr, socket, owner, options });
            }
            Err(error) => warn!(%addr, %error, "cannot watch the listening socket"),
        }
    }

    /// Takes note that epoll has called one of the sockets.
    pub(super) fn mark_ready(&mut self, token: Token) {
        for acceptor in self.sockets.iter_mut().filter(|acceptor| acceptor.token == token) {
            acceptor.may_have_clients = true;
        }
    }

    /// Whether somebody may wait on one of the sockets.
    pub(super) fn may_have_clients(&self) -> bool {
        self.sockets.iter().any(|acceptor| acceptor.may_have_clients)
    }

    /// Where it accepts.
    pub(super) fn addresses(&self) -> Vec<(RouteKind, SocketAddr)> {
        self.sockets.iter().map(|acceptor| (acceptor.route, acceptor.addr)).collect()
    }

    /// Lets go of the sockets of this address. Clients in a backlog that nobody keeps have a connection already: they
    /// are given out, to be served and not reset.
    pub(super) fn unlisten(
        &mut self,
        route: RouteKind,
        addr: SocketAddr,
        registry: &Registry,
    ) -> Vec<Client> {
        let options = self.settings.borrow().socket;
        let mut clients = Vec::new();
        for mut acceptor in self.sockets.extract_if(.., |known| (known.route, known.addr) == (route, addr)) {
            // Closing it does not: another process may hold the socket as well, and epoll would go on speaking of its clients.
            if let Err(error) = registry.deregister(&mut acceptor.socket) {
                warn!(%addr, %error, "cannot cease to watch a listening socket");
            }
            match acceptor.owner {
                ListenerOwner::Supervisor => {}
                ListenerOwner::Process => {
                    while let Some(accepted) = acceptor.accept(options) {
                        match accepted {
                            Ok(client) => clients.push(client),
                            Err(error) => {
                                warn!(%addr, %error, "cannot accept the last clients");
                                break;
                            }
                        }
                    }
                }
            }
        }
        clients
    }

    /// The next client of any of the sockets; nothing when all are empty.
    pub(super) fn next(&mut self) -> Option<(RouteKind, io::Result<Client>)> {
        let options = self.settings.borrow().socket;
        for step in 0..self.sockets.len() {
            let index = (self.next + step) % self.sockets.len();
            let acceptor = &mut self.sockets[index];
            if !acceptor.may_have_clients {
                continue;
            }
            if let Some(accepted) = acceptor.accept(options) {
                self.next = index + 1;
                return Some((acceptor.route, accepted));
            }
            acceptor.may_have_clients = false;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};
    use socket2::SockRef;

    use super::*;
    use crate::net;

    const CLIENTS: usize = 10;
    const BOUND: Duration = Duration::from_secs(10);

    fn listener(owner: ListenerOwner) -> Listener {
        let socket = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        Listener { route: RouteKind::Write, addr: socket.local_addr().unwrap(), socket, owner }
    }

    fn connect(addr: SocketAddr) -> Vec<TcpStream> {
        (0..CLIENTS).map(|_| TcpStream::connect(addr).unwrap()).collect()
    }

    fn acceptors() -> (watch::Sender<SessionSettings>, Acceptors, Poll) {
        let (sender, settings) = watch::channel(SessionSettings {
            max_sessions: 1,
            startup_timeout: BOUND,
            connect_timeout: BOUND,
            write_hold_timeout: BOUND,
            read_hold_timeout: BOUND,
            socket: SocketOptions {
                keepalive: Duration::from_secs(9),
                user_timeout: Duration::from_secs(20),
            },
        });
        (sender, Acceptors::new(settings), Poll::new().unwrap())
    }

    #[test]
    fn who_is_accepted_is_watched_over_as_the_settings_say_at_that_moment() {
        let (settings, mut acceptors, poll) = acceptors();
        let listener = listener(ListenerOwner::Process);
        let addr = listener.addr;
        acceptors.add(listener, poll.registry());
        let mut accepted = |keepalive: u64| {
            let _client = TcpStream::connect(addr).unwrap();
            let (client, _) = acceptors.next().unwrap().1.unwrap();
            let socket = SockRef::from(&client);
            assert!(client.nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(keepalive));
        };
        accepted(9);
        settings.send_modify(|settings| settings.socket.keepalive = Duration::from_secs(12));
        accepted(12);
        accepted(12);
    }

    #[test]
    fn a_backlog_that_nobody_keeps_is_emptied() {
        let (_settings, mut acceptors, poll) = acceptors();
        let listener = listener(ListenerOwner::Process);
        let addr = listener.addr;
        acceptors.add(listener, poll.registry());
        let _clients = connect(addr);
        assert_eq!(acceptors.unlisten(RouteKind::Read, addr, poll.registry()).len(), 0, "another route");
        assert_eq!(acceptors.unlisten(RouteKind::Write, addr, poll.registry()).len(), CLIENTS);
        assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
    }

    #[test]
    fn a_backlog_that_a_holder_keeps_is_left_to_it_and_epoll_speaks_no_more_of_it() {
        let (_settings, mut acceptors, mut poll) = acceptors();
        let listener = listener(ListenerOwner::Supervisor);
        let (addr, holder) = (listener.addr, listener.socket.try_clone().unwrap());
        acceptors.add(listener, poll.registry());
        let _clients = connect(addr);
        let mut events = Events::with_capacity(1);
        poll.poll(&mut events, Some(BOUND)).unwrap();
        assert!(events.iter().all(|event| LISTENERS.contains(&event.token().0)) && !events.is_empty());
        assert_eq!(acceptors.unlisten(RouteKind::Write, addr, poll.registry()).len(), 0);
        let _latecomers = connect(addr);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
        let accepted_by_holder = std::iter::from_fn(|| holder.accept().ok()).count();
        assert_eq!(accepted_by_holder, 2 * CLIENTS, "those who came before and after");
    }

    #[test]
    fn no_socket_starves_beside_one_that_is_never_empty() {
        let (_settings, mut acceptors, poll) = acceptors();
        let (busy, other) = (listener(ListenerOwner::Process), listener(ListenerOwner::Process));
        let (busy_addr, other_addr) = (busy.addr, other.addr);
        acceptors.add(busy, poll.registry());
        acceptors.add(other, poll.registry());
        let _clients = (connect(busy_addr), connect(other_addr));
        let mut served = Vec::new();
        for _ in 0..CLIENTS {
            served.push(acceptors.next().unwrap().1.unwrap().0.local_addr().unwrap());
        }
        let of_other = served.iter().filter(|addr| **addr == other_addr).count();
        assert!((2..=8).contains(&of_other), "{of_other} of {CLIENTS}");
    }
}
