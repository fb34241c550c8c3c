//! Acceptors: the listening sockets of one worker, from which it accepts clients in turn.

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

/// A client's connection and address.
pub(super) type Client = (TcpStream, SocketAddr);

/// The listening sockets of one worker.
#[derive(Debug)]
pub(super) struct Acceptors {
    settings: watch::Receiver<SessionSettings>,
    sockets: Vec<Acceptor>,
    /// How many were ever added, for their tokens.
    adopted: usize,
    /// The socket to try first next time, so that a busy socket cannot starve the others.
    next: usize,
}

#[derive(Debug)]
struct Acceptor {
    token: Token,
    /// Epoll is edge-triggered: it announces waiting clients once, however many there are.
    may_have_clients: bool,
    route: RouteKind,
    addr: SocketAddr,
    socket: TcpListener,
    owner: ListenerOwner,
    /// The options set on the socket, which accepted connections inherit.
    options: SocketOptions,
}

impl Acceptor {
    /// Accepts the next client, if one is waiting.
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

    /// Sets the present options on a client that was accepted with others.
    fn apply(&mut self, client: &TcpStream, options: SocketOptions) -> io::Result<()> {
        if self.options == options {
            return Ok(());
        }
        // Later clients inherit the options from the listening socket; this one was accepted before.
        options.apply(&self.socket)?;
        self.options = options;
        options.apply(client)
    }
}

impl Acceptors {
    pub(super) const fn new(settings: watch::Receiver<SessionSettings>) -> Self {
        Self { settings, sockets: Vec::new(), adopted: 0, next: 0 }
    }

    /// Adds a listening socket.
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

    /// Records that epoll announced clients on a socket.
    pub(super) fn mark_ready(&mut self, token: Token) {
        for acceptor in self.sockets.iter_mut().filter(|acceptor| acceptor.token == token) {
            acceptor.may_have_clients = true;
        }
    }

    /// Whether a client may be waiting on one of the sockets.
    pub(super) fn may_have_clients(&self) -> bool {
        self.sockets.iter().any(|acceptor| acceptor.may_have_clients)
    }

    /// The routes and addresses of the sockets.
    pub(super) fn addresses(&self) -> Vec<(RouteKind, SocketAddr)> {
        self.sockets.iter().map(|acceptor| (acceptor.route, acceptor.addr)).collect()
    }

    /// Removes the sockets of this address. Returns the clients in the backlogs that only this process owns, because
    /// closing these sockets would reset them.
    pub(super) fn unlisten(
        &mut self,
        route: RouteKind,
        addr: SocketAddr,
        registry: &Registry,
    ) -> Vec<Client> {
        let options = self.settings.borrow().socket;
        let mut clients = Vec::new();
        for mut acceptor in self.sockets.extract_if(.., |known| (known.route, known.addr) == (route, addr)) {
            // Closing the socket is not enough: while another process has it open too, epoll would keep reporting it.
            if let Err(error) = registry.deregister(&mut acceptor.socket) {
                warn!(%addr, %error, "cannot stop watching a listening socket");
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

    /// Accepts the next client from any of the sockets; `None` if no client is waiting.
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
    use crate::session::ClientLimits;

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
            limits: ClientLimits { sessions: 1, rejected_at_once: 256 },
            access: None,
            startup_timeout: BOUND,
            connect_timeout: BOUND,
            write_hold_timeout: Some(BOUND),
            read_hold_timeout: BOUND,
            socket: SocketOptions {
                keepalive: Duration::from_secs(9),
                user_timeout: Duration::from_secs(20),
            },
            log_sessions: true,
        });
        (sender, Acceptors::new(settings), Poll::new().unwrap())
    }

    #[test]
    fn accepted_clients_get_the_present_socket_options() {
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
    fn a_backlog_that_only_this_process_owns_is_emptied() {
        let (_settings, mut acceptors, poll) = acceptors();
        let listener = listener(ListenerOwner::Process);
        let addr = listener.addr;
        acceptors.add(listener, poll.registry());
        let _clients = connect(addr);
        assert_eq!(acceptors.unlisten(RouteKind::Read, addr, poll.registry()).len(), 0, "another route");
        assert_eq!(acceptors.unlisten(RouteKind::Write, addr, poll.registry()).len(), CLIENTS);
        assert!(TcpStream::connect(addr).is_err(), "the socket is closed");
    }

    #[test]
    fn a_backlog_that_the_supervisor_owns_is_left_to_it_and_no_longer_watched() {
        let (_settings, mut acceptors, mut poll) = acceptors();
        let listener = listener(ListenerOwner::Supervisor);
        let (addr, supervisor) = (listener.addr, listener.socket.try_clone().unwrap());
        acceptors.add(listener, poll.registry());
        let _clients = connect(addr);
        let mut events = Events::with_capacity(1);
        poll.poll(&mut events, Some(BOUND)).unwrap();
        assert!(events.iter().all(|event| LISTENERS.contains(&event.token().0)) && !events.is_empty());
        assert_eq!(acceptors.unlisten(RouteKind::Write, addr, poll.registry()).len(), 0);
        let _latecomers = connect(addr);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
        let left = std::iter::from_fn(|| supervisor.accept().ok()).count();
        assert_eq!(left, 2 * CLIENTS, "those from before and after");
    }

    #[test]
    fn a_busy_socket_does_not_starve_another() {
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
