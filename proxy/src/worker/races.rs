//! The hand-over of a session between two event loops against the end of its epoch, in all orders in which the threads may run.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use mio::{Poll, Waker};
use pg_leader_proxy_core::{Admission, MemberName, Moment, Reason, RouteEpoch, ServerAddr};
use shuttle::thread;
use tokio::sync::{mpsc, watch};

use super::balance::{LoadGuard, Peer, Pool, PoolHandle, RelayedSession};
use super::event_loop::EventLoop;
use super::{LoopWaker, WAKE, WorkerCommand};
use crate::admission::{
    DisconnectReason, Gate, GateLimits, Grant, HoldTerms, Target, TargetSessions, Targets,
};
use crate::counters::Counters;
use crate::net::SocketOptions;
use crate::races::explore;
use crate::route::RouteKind;
use crate::session::{ClientLimits, Session, SessionSettings, Shared};

/// A worker without its accept loop.
struct Loop {
    event_loop: EventLoop,
    inbox: mpsc::Receiver<WorkerCommand>,
    handle: PoolHandle,
}

impl Loop {
    /// One round, as `AcceptLoop` makes it: commands are only looked at after a wake-up.
    fn advance(&mut self) {
        let ready = self.event_loop.advance(Some(Duration::ZERO));
        for key in self.event_loop.take_settled() {
            let Some(permit) = self.handle.transfer_permit() else { break };
            if let Some(relayed) = self.event_loop.remove_for_transfer(key) {
                permit.transfer(relayed);
            }
        }
        while ready.woken
            && let Ok(command) = self.inbox.try_recv()
        {
            match command {
                WorkerCommand::Relay(relayed) => self.event_loop.add(relayed),
                WorkerCommand::Listen(_) | WorkerCommand::Unlisten(..) | WorkerCommand::Sessions(_) => {
                    panic!("nobody sent that")
                }
            }
        }
    }
}

/// A session moves to the other worker while its epoch ends: it ends, on one of them, and is counted nowhere any more; what
/// its server says afterwards reaches nobody.
#[test]
fn a_session_that_moves_while_its_epoch_ends_is_ended_once() {
    explore(|| {
        let counters = Arc::new(Counters::default());
        let (pool, [mut first, mut second], _commands) = workers(&counters);
        let grant = Arc::new(Grant::until(Moment::from_boot(Duration::MAX)));
        let ([client, server], sockets) = sockets();
        let session = session(&counters, &grant, sockets);
        // The first worker has more clients, so that it wants to give one away.
        let others: Vec<LoadGuard> = (0..2).map(|_| first.handle.add_client()).collect();
        let load = first.handle.add_client();
        let givers = thread::spawn(move || {
            first.event_loop.add(Box::new(RelayedSession { session, load }));
            (0..3).for_each(|_| first.advance());
            first
        });
        let takers = thread::spawn(move || {
            for _ in 0..3 {
                second.advance();
                thread::yield_now();
            }
            second
        });
        grant.revoke(DisconnectReason::NewLeader);
        let _ = (&server).write(b"late");
        let mut loops = [givers.join().unwrap(), takers.join().unwrap()];
        // Whoever was woken runs once more, and again for what that woke.
        (0..3).for_each(|_| loops.iter_mut().for_each(Loop::advance));
        assert!(loops.iter().all(|worker| worker.event_loop.is_empty()), "a session outlives its epoch");
        drop(others);
        assert_eq!(
            pool.iter().map(|peer| peer.load().count()).sum::<usize>(),
            0,
            "a client is counted that is gone"
        );
        let mut received = Vec::new();
        match (&client).read_to_end(&mut received) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        assert!(!received.windows(4).any(|bytes| bytes == b"late"), "a byte passed after the end");
    });
}

/// Clients come and go on two workers that give each other sessions: in the end nobody is counted.
#[test]
fn no_guard_of_a_workers_load_is_lost() {
    explore(|| {
        let (pool, loops, _commands) = workers(&Arc::default());
        let threads = loops.map(|Loop { handle, inbox, .. }| {
            thread::spawn(move || {
                let mut clients: Vec<LoadGuard> = (0..3).map(|_| handle.add_client()).collect();
                // A permit that is not used gives its place back.
                drop(handle.transfer_permit());
                clients.pop();
                drop(handle.transfer_permit());
                drop(clients);
                inbox
            })
        });
        for thread in threads {
            assert!(thread.join().unwrap().is_empty());
        }
        assert!(pool.iter().all(|peer| peer.load().count() == 0));
    });
}

type Commands = [mpsc::Sender<WorkerCommand>; 2];

fn workers(counters: &Arc<Counters>) -> (Pool, [Loop; 2], Commands) {
    let polls = [(); 2].map(|()| Poll::new().unwrap());
    let wakers = polls.each_ref().map(|poll| Arc::new(LoopWaker(Waker::new(poll.registry(), WAKE).unwrap())));
    let [(one, one_inbox), (other, other_inbox)] = [(); 2].map(|()| mpsc::channel(4));
    let commands = [one, other];
    let peers = commands
        .iter()
        .zip(&wakers)
        .map(|(commands, waker)| Peer::new(commands.downgrade(), Arc::clone(waker)));
    let pool: Pool = peers.collect();
    let mut parts = polls.into_iter().zip(wakers).zip([one_inbox, other_inbox]).enumerate().map(
        |(index, ((poll, waker), inbox))| Loop {
            event_loop: EventLoop::new(poll, waker, counters.add_worker()),
            inbox,
            handle: PoolHandle::new(index, Arc::clone(&pool)),
        },
    );
    let loops = [parts.next().unwrap(), parts.next().unwrap()];
    drop(parts);
    (pool, loops, commands)
}

/// The outer ends of client and server, and the ends that the proxy has.
fn sockets() -> ([TcpStream; 2], [TcpStream; 2]) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = || {
        let outer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (inner, _) = listener.accept().unwrap();
        inner.set_nonblocking(true).unwrap();
        (outer, inner)
    };
    let ((client, of_client), (server, of_server)) = (pair(), pair());
    ([client, server], [of_client, of_server])
}

fn session(counters: &Arc<Counters>, grant: &Arc<Grant>, sockets: [TcpStream; 2]) -> Session {
    let member = MemberName::new("a");
    let target = Target {
        member: member.clone(),
        addr: ServerAddr::new("a", 5432),
        socket: sockets[1].peer_addr().unwrap(),
        epoch: RouteEpoch::default(),
        grant: Arc::clone(grant),
        admission: Admission::Open,
        counters: None,
        sessions: Arc::new(TargetSessions::new(Arc::clone(counters.member(&member).route(RouteKind::Write)))),
    };
    let targets = Targets { write: Ok(target), read: Err(Reason::NoReplica) };
    let (target, guard) = targets.reserve(RouteKind::Write, None).unwrap();
    Session::in_model(Arc::new(shared(counters, targets)), (target, guard), sockets)
}

fn shared(counters: &Arc<Counters>, targets: Targets) -> Shared {
    let gate = || Gate::new(GateLimits { max_held: 1, max_concurrent_logins: 1 });
    let second = Duration::from_secs(1);
    let settings = SessionSettings {
        limits: ClientLimits { sessions: 1, rejected_at_once: 1 },
        access: None,
        startup_timeout: second,
        connect_timeout: second,
        write_hold_timeout: None,
        read_hold_timeout: second,
        socket: SocketOptions { keepalive: second, user_timeout: second },
        log_sessions: false,
    };
    Shared {
        targets: watch::channel(Arc::new(targets)).1,
        hold_terms: watch::channel(HoldTerms::default()).1,
        settings: watch::channel(settings).1,
        write_gate: gate(),
        read_gate: gate(),
        addresses: Arc::default(),
        counters: Arc::clone(counters),
        recheck: mpsc::channel(1).0,
    }
}
