//! Acceptors: the listening sockets of one worker, from which it takes clients in turn.

use std::io;
use std::net::SocketAddr;
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{Keeper, Listener};
use crate::config::Session;
use crate::net;
use crate::session::Settings;
use crate::tally::RouteKind;

/// A connection, and where it comes from.
pub(super) type Client = (TcpStream, SocketAddr);

/// The listening sockets of one worker.
#[derive(Debug)]
pub(super) struct Acceptors {
    settings: watch::Receiver<Settings>,
    sockets: Vec<Acceptor>,
    /// Where the next look begins: none of the sockets shall starve because another one is never empty.
    turn: usize,
}

#[derive(Debug)]
struct Acceptor {
    route: RouteKind,
    addr: SocketAddr,
    socket: TcpListener,
    keeper: Keeper,
    /// What the socket was prepared for, and so everybody who is accepted from it.
    prepared: Session,
}

impl Acceptor {
    /// Prepares the socket, and with it all clients to come, for other settings than before.
    fn prepare(&mut self, client: &TcpStream, session: Session) -> io::Result<()> {
        net::prepare(&self.socket, &session)?;
        self.prepared = session;
        // This one came before.
        net::prepare(client, &session)
    }
}

impl Acceptors {
    pub(super) const fn new(settings: watch::Receiver<Settings>) -> Self {
        Self { settings, sockets: Vec::new(), turn: 0 }
    }

    pub(super) fn adopt(&mut self, listener: Listener) {
        let Listener { route, addr, socket, keeper } = listener;
        let prepared = self.settings.borrow().session;
        let watched = net::prepare(&socket, &prepared).and_then(|()| TcpListener::from_std(socket));
        match watched {
            Ok(socket) => {
                debug!(route = route.code(), %addr, ?keeper, "listening");
                self.sockets.push(Acceptor { route, addr, socket, keeper, prepared });
            }
            Err(error) => warn!(%addr, %error, "cannot watch the listening socket"),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Lets go of the sockets of this address. Clients in a backlog that nobody keeps have a connection already: they
    /// are given out, to be served and not reset.
    pub(super) fn let_go(&mut self, route: RouteKind, addr: SocketAddr) -> Vec<Client> {
        let mut clients = Vec::new();
        for acceptor in self.sockets.extract_if(.., |known| (known.route, known.addr) == (route, addr)) {
            match acceptor.keeper {
                Keeper::Holder => {}
                Keeper::Us => match empty_backlog(acceptor.socket, &mut clients) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                        warn!(%addr, %error, "cannot accept the last clients");
                    }
                    Ok(()) | Err(_) => {}
                },
            }
        }
        clients
    }

    /// The next client of any of the sockets.
    pub(super) async fn next(&mut self) -> (RouteKind, io::Result<Client>) {
        std::future::poll_fn(|cx| {
            for step in 0..self.sockets.len() {
                let index = (self.turn + step) % self.sockets.len();
                let acceptor = &mut self.sockets[index];
                if let Poll::Ready(mut accepted) = acceptor.socket.poll_accept(cx) {
                    let session = self.settings.borrow().session;
                    if let Ok((client, _)) = &accepted
                        && acceptor.prepared != session
                        && let Err(error) = acceptor.prepare(client, session)
                    {
                        accepted = Err(error);
                    }
                    self.turn = index + 1;
                    return Poll::Ready((acceptor.route, accepted));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Accepts until there is nobody left. The socket is asked itself, because the runtime may not have heard yet of the
/// client that came last.
fn empty_backlog(socket: TcpListener, clients: &mut Vec<Client>) -> io::Result<()> {
    let socket = socket.into_std()?;
    loop {
        let (client, peer) = socket.accept()?;
        client.set_nonblocking(true)?;
        clients.push((TcpStream::from_std(client)?, peer));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket2::SockRef;

    use super::*;

    const CLIENTS: usize = 10;
    const BOUND: Duration = Duration::from_secs(10);

    fn listener(keeper: Keeper) -> Listener {
        let socket = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        Listener { route: RouteKind::Write, addr: socket.local_addr().unwrap(), socket, keeper }
    }

    fn connect(addr: SocketAddr) -> Vec<std::net::TcpStream> {
        (0..CLIENTS).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect()
    }

    fn acceptors() -> (watch::Sender<Settings>, Acceptors) {
        let session = Session {
            max_sessions: 1,
            startup_timeout: BOUND,
            connect_timeout: BOUND,
            keepalive: Duration::from_secs(9),
            user_timeout: Duration::from_secs(20),
            drain: BOUND,
            workers: 1,
        };
        let (sender, settings) = watch::channel(Settings { session, write_hold: BOUND, read_hold: BOUND });
        (sender, Acceptors::new(settings))
    }

    #[tokio::test]
    async fn who_is_accepted_is_watched_over_as_the_settings_say_at_that_moment() {
        let (settings, mut acceptors) = acceptors();
        let listener = listener(Keeper::Us);
        let addr = listener.addr;
        acceptors.adopt(listener);
        let mut accepted = async |keepalive: u64| {
            let _client = std::net::TcpStream::connect(addr).unwrap();
            let (client, _) = acceptors.next().await.1.unwrap();
            let socket = SockRef::from(&client);
            assert!(client.nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(keepalive));
        };
        accepted(9).await;
        settings.send_modify(|settings| settings.session.keepalive = Duration::from_secs(12));
        accepted(12).await;
        accepted(12).await;
    }

    #[tokio::test]
    async fn a_backlog_that_nobody_keeps_is_emptied() {
        let (_settings, mut acceptors) = acceptors();
        let listener = listener(Keeper::Us);
        let addr = listener.addr;
        acceptors.adopt(listener);
        let _clients = connect(addr);
        assert_eq!(acceptors.let_go(RouteKind::Read, addr).len(), 0, "another route");
        assert_eq!(acceptors.let_go(RouteKind::Write, addr).len(), CLIENTS);
        assert!(std::net::TcpStream::connect(addr).is_err(), "nobody listens any more");
    }

    #[tokio::test]
    async fn a_backlog_that_a_holder_keeps_is_left_to_it() {
        let (_settings, mut acceptors) = acceptors();
        let listener = listener(Keeper::Holder);
        let (addr, holder) = (listener.addr, listener.socket.try_clone().unwrap());
        acceptors.adopt(listener);
        let _clients = connect(addr);
        assert_eq!(acceptors.let_go(RouteKind::Write, addr).len(), 0);
        let _latecomers = connect(addr);
        let kept = std::iter::from_fn(|| holder.accept().ok()).count();
        assert_eq!(kept, 2 * CLIENTS, "those who came before and after");
    }

    #[tokio::test]
    async fn no_socket_starves_beside_one_that_is_never_empty() {
        let (_settings, mut acceptors) = acceptors();
        let (busy, other) = (listener(Keeper::Us), listener(Keeper::Us));
        let (busy_addr, other_addr) = (busy.addr, other.addr);
        acceptors.adopt(busy);
        acceptors.adopt(other);
        let _clients = (connect(busy_addr), connect(other_addr));
        let mut served = Vec::new();
        for _ in 0..CLIENTS {
            served.push(acceptors.next().await.1.unwrap().0.local_addr().unwrap());
        }
        let of_other = served.iter().filter(|addr| **addr == other_addr).count();
        assert!((2..=8).contains(&of_other), "{of_other} of {CLIENTS}");
    }
}
