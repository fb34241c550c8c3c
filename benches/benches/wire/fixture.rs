//! A server with small and large answers, and a worker of the proxy in front of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pg_leader_proxy::admission::{Gate, GateLimits, Grant, Target, Targets};
use pg_leader_proxy::counters::Counters;
use pg_leader_proxy::net::{self, SocketOptions};
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::session::{ClientLimits, SessionSettings, Shared};
use pg_leader_proxy::worker::{Listener, ListenerOwner, Workers};
use pg_leader_proxy_core::{
    Admission, LeaderKey, Lsn, Member, MemberName, Moment, Observation, Policy, ProbeConnection, ProbeReply,
    Revision, Role, RouteEpoch, Router, ServerAddr, Stamped, StartTime, SystemId, Timeline,
};
use tokio::runtime;
use tokio::sync::{mpsc, watch};

/// A start-up packet of protocol 3.0 for the user `anna`.
pub(crate) const STARTUP: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0anna\0\0";
/// The answer to a login: AuthenticationOk and ReadyForQuery.
pub(crate) const LOGIN: &[u8; 15] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
/// A small answer: ReadyForQuery.
pub(crate) const SMALL: &[u8] = b"Z\0\0\0\x05I";
/// Bytes of a large answer. A multiple of every message size that is measured.
pub(crate) const BULK: usize = 16_000_000;

/// A server with a thread for each session.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts one whose large answers are in messages of `message` bytes, including the header.
    pub(crate) fn start(message: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
        let address = listener.local_addr().expect("the socket is bound");
        // The length counts itself but not the type.
        let length = u32::try_from(message - 1).expect("a message is short");
        let mut one = [&b"d"[..], &length.to_be_bytes()].concat();
        one.resize(message, b'x');
        let bulk: Arc<[u8]> = one.repeat(BULK / message).into();
        assert_eq!(bulk.len(), BULK, "otherwise a message would be cut");
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let bulk = Arc::clone(&bulk);
                thread::spawn(move || serve(client, &bulk));
            }
        });
        Self { address }
    }
}

fn serve(mut client: TcpStream, bulk: &[u8]) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut startup = [0; STARTUP.len()];
    client.read_exact(&mut startup)?;
    client.write_all(LOGIN)?;
    let mut request = [0; 2];
    loop {
        match client.read(&mut request)? {
            0 => return Ok(()),
            1 => client.write_all(SMALL)?,
            _ => client.write_all(bulk)?,
        }
    }
}

/// A worker whose leader is always the same server.
pub(crate) struct Worker {
    pub(crate) address: SocketAddr,
    _kept_open:
        (Workers, watch::Sender<Arc<Targets>>, watch::Sender<SessionSettings>, mpsc::Receiver<MemberName>),
}

impl Worker {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let target = Target {
            member: MemberName::new("a"),
            addr: ServerAddr::new(&server.ip().to_string(), server.port()),
            socket: server,
            epoch: epoch(),
            grant: Arc::new(Grant::until(Moment::from_boot(Duration::MAX))),
            admission: Admission::Open,
            counters: None,
            sessions: Arc::default(),
        };
        let (targets, targets_seen) =
            watch::channel(Arc::new(Targets { write: Ok(target), ..Targets::starting() }));
        let (settings, settings_seen) = watch::channel(settings());
        let (recheck, rechecks) = mpsc::channel(1);
        let [write_gate, read_gate] =
            [(), ()].map(|()| Gate::new(GateLimits { max_held: 10, max_concurrent_logins: 10 }));
        write_gate.set_open(true);
        let shared = Shared {
            targets: targets_seen,
            hold_terms: watch::Sender::default().subscribe(),
            settings: settings_seen,
            write_gate,
            read_gate,
            addresses: Arc::default(),
            counters: Arc::new(Counters::default()),
            recheck,
        };
        let workers = Workers::start(1, shared).expect("the system has a thread");
        let socket = net::listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("loopback has a port");
        let address = socket.local_addr().expect("the socket is bound");
        let owner = ListenerOwner::Process;
        let listener = Listener { route: RouteKind::Write, addr: address, socket, owner };
        let runtime = runtime::Builder::new_current_thread().build().expect("a runtime needs nothing");
        runtime.block_on(workers.listen(listener));
        Self { address, _kept_open: (workers, targets, settings, rechecks) }
    }
}

/// The proxy's defaults, as far as a relay uses them.
fn settings() -> SessionSettings {
    SessionSettings {
        limits: ClientLimits { sessions: 10, rejected_at_once: 256 },
        access: None,
        startup_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(3),
        write_hold_timeout: Some(Duration::from_secs(30)),
        read_hold_timeout: Duration::from_secs(30),
        socket: SocketOptions { keepalive: Duration::from_secs(15), user_timeout: Duration::from_secs(900) },
        log_sessions: false,
    }
}

/// Only a router makes epochs, so this one is given a leader.
fn epoch() -> RouteEpoch {
    let now = Moment::from_boot(Duration::from_secs(1));
    let (name, addr) = (MemberName::new("a"), ServerAddr::new("a", 5432));
    let key = LeaderKey { holder: name.clone(), create_revision: Revision(1) };
    let role = Role::Primary { timeline: Timeline(1), written: Lsn(1) };
    let mut router = Router::new(Policy::default());
    for observation in [
        Observation::Members([(name.clone(), Member { addr: addr.clone(), no_load_balance: false })].into()),
        Observation::Initialize(Some(SystemId(1))),
        Observation::LeaderKey {
            key: Some(key),
            lease: Some(Stamped { sent: now, fact: Duration::from_secs(20) }),
            seen: now,
        },
        Observation::Probe {
            member: name,
            addr,
            socket: Some(([10, 0, 0, 1], 5432).into()),
            sent: now,
            connection: ProbeConnection::New,
            outcome: Ok(ProbeReply { system_id: SystemId(1), started: StartTime(1), role }),
        },
    ] {
        router.observe(observation, now);
    }
    router.routing().write.leader().expect("the only member is the leader").epoch()
}
