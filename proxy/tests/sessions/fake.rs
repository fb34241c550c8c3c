//! A fake server that speaks only as much PostgreSQL as a relay looks at, and a rig with workers in front of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy::admission::{Access, Gate, GateLimits, Grant, HoldTerms, Target, Targets};
use pg_leader_proxy::counters::{Counters, EpochCounters};
use pg_leader_proxy::net::{self, SocketOptions};
use pg_leader_proxy::networks::Networks;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::session::{ClientLimits, SessionSettings, Shared};
use pg_leader_proxy::worker::{Listener, ListenerOwner, Workers};
use pg_leader_proxy_core::{
    Admission, LeaderKey, Member, MemberName, Moment, Observation, Policy, ProbeConnection, ProbeReply,
    Reason, Revision, Role, RouteEpoch, Router, ServerAddr, Stamped, StartTime, SystemId, Timeline,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};

/// Longer than any step of a test takes.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// A client's request for TLS.
pub(crate) const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
/// A start-up packet of protocol 3.0 for the user `anna`.
pub(crate) const STARTUP: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0anna\0\0";
/// One of the same length, for the user `otto`.
pub(crate) const OTHER_STARTUP: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0otto\0\0";
/// The fake server's answer to either start-up packet: AuthenticationOk.
pub(crate) const AUTH_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
/// AuthenticationMD5Password: the server waits for the client.
pub(crate) const PASSWORD_REQUEST: &[u8] = b"R\0\0\0\x0c\0\0\0\x05salt";

/// A listening socket whose connections the test serves itself.
pub(crate) struct FakeServer {
    listener: TcpListener,
    pub(crate) addr: SocketAddr,
}

impl FakeServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    pub(crate) async fn accept(&self) -> TcpStream {
        bounded(self.listener.accept()).await.unwrap().0
    }

    /// Accepts a connection, reads the start-up packet and answers it.
    pub(crate) async fn accept_session(&self) -> TcpStream {
        let mut server = self.accept().await;
        expect(&mut server, STARTUP).await;
        server.write_all(AUTH_OK).await.unwrap();
        server
    }

    /// Whether no client connects for a moment.
    pub(crate) async fn has_no_client(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(100), self.listener.accept()).await.is_err()
    }
}

/// Workers without control: the test sets the targets of sessions.
pub(crate) struct Rig {
    pub(crate) client_addr: SocketAddr,
    pub(crate) read_addr: SocketAddr,
    pub(crate) counters: Arc<Counters>,
    pub(crate) write_gate: Gate,
    pub(crate) read_gate: Gate,
    pub(crate) rechecks: mpsc::Receiver<MemberName>,
    pub(crate) hold_terms: watch::Sender<HoldTerms>,
    targets: watch::Sender<Arc<Targets>>,
    pub(crate) settings: watch::Sender<SessionSettings>,
    pub(crate) workers: Workers,
    epochs: Router,
    now: Duration,
}

/// The settings of most tests.
pub(crate) fn settings() -> SessionSettings {
    SessionSettings {
        limits: ClientLimits { sessions: 1000, rejected_at_once: 256 },
        access: None,
        startup_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(2),
        write_hold_timeout: Some(Duration::from_secs(5)),
        read_hold_timeout: Duration::from_secs(5),
        socket: SocketOptions { keepalive: Duration::from_secs(15), user_timeout: Duration::from_secs(20) },
        log_sessions: true,
    }
}

/// The same settings with another hold timeout.
pub(crate) fn with_hold_timeout(timeout: Duration) -> SessionSettings {
    SessionSettings { write_hold_timeout: Some(timeout), read_hold_timeout: timeout, ..settings() }
}

impl Rig {
    pub(crate) async fn start(settings: SessionSettings, workers: usize, limits: GateLimits) -> Self {
        let nobody = Targets { write: Err(Reason::NoLeader), read: Err(Reason::NoReplica) };
        let (targets, seen) = watch::channel(Arc::new(nobody));
        let hold_terms = watch::Sender::default();
        let (settings, settings_seen) = watch::channel(settings);
        let (recheck, rechecks) = mpsc::channel(64);
        let counters = Arc::new(Counters::default());
        let (write_gate, read_gate) = (Gate::new(limits), Gate::new(limits));
        let shared = Shared {
            targets: seen,
            hold_terms: hold_terms.subscribe(),
            settings: settings_seen,
            write_gate: write_gate.clone(),
            read_gate: read_gate.clone(),
            addresses: Arc::default(),
            counters: Arc::clone(&counters),
            recheck,
        };
        let workers = Workers::start(workers, shared).unwrap();
        let mut addrs = Vec::new();
        for route in RouteKind::ALL {
            let socket = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
            let addr = socket.local_addr().unwrap();
            workers.listen(Listener { route, addr, socket, owner: ListenerOwner::Process }).await;
            addrs.push(addr);
        }
        Self {
            client_addr: addrs[0],
            read_addr: addrs[1],
            counters,
            write_gate,
            read_gate,
            rechecks,
            hold_terms,
            targets,
            settings,
            workers,
            epochs: Router::new(Policy::default()),
            now: Duration::ZERO,
        }
    }

    /// A rig with the settings of most tests, one worker and high limits.
    pub(crate) async fn with_defaults() -> Self {
        Self::start(settings(), 1, GateLimits { max_held: 100, max_concurrent_logins: 100 }).await
    }

    /// Makes `server` the leader in a new epoch, for as long as the returned grant is valid.
    pub(crate) fn make_leader(&mut self, server: &FakeServer) -> Arc<Grant> {
        let target = self.target("a", server);
        let grant = Arc::clone(&target.grant);
        self.publish(|targets| targets.write = Ok(target));
        self.write_gate.set_open(true);
        grant
    }

    /// Ends the leader's epoch, as control does.
    pub(crate) fn end_epoch(&mut self, grant: &Grant, reason: Reason) {
        grant.revoke(pg_leader_proxy::admission::DisconnectReason::Route(reason.clone()));
        self.publish(|targets| targets.write = Err(reason));
        self.write_gate.set_open(false);
    }

    /// The counters of the present leader's epoch.
    pub(crate) fn epoch_counters(&self) -> Arc<EpochCounters> {
        self.targets.borrow().write.as_ref().unwrap().counters.clone().unwrap()
    }

    /// Makes these servers the read route. Returns their grants.
    pub(crate) fn serve_reads(&mut self, servers: &[&FakeServer]) -> Vec<Arc<Grant>> {
        let targets: Vec<Target> =
            servers.iter().enumerate().map(|(n, server)| self.target(&format!("r{n}"), server)).collect();
        let grants = targets.iter().map(|target| Arc::clone(&target.grant)).collect();
        self.publish(|known| known.read = Ok(targets));
        self.read_gate.set_open(true);
        grants
    }

    pub(crate) async fn client(&self) -> TcpStream {
        bounded(TcpStream::connect(self.client_addr)).await.unwrap()
    }

    /// A client with an open session, and the server's end of it.
    pub(crate) async fn open_session(&self, server: &FakeServer) -> (TcpStream, TcpStream) {
        let mut client = self.client().await;
        client.write_all(STARTUP).await.unwrap();
        let server = server.accept_session().await;
        expect(&mut client, AUTH_OK).await;
        (client, server)
    }

    /// Waits until `is` is true of the counters.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Counters) -> bool) {
        let waiting = async {
            while !is(&self.counters) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(BOUND, waiting).await.is_ok(), "never came true: {what}");
    }

    /// Changes the targets, as control does.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Targets)) {
        let mut targets = (**self.targets.borrow()).clone();
        change(&mut targets);
        self.targets.send_replace(Arc::new(targets));
    }

    fn target(&mut self, member: &str, server: &FakeServer) -> Target {
        let epoch = self.next_epoch();
        Target {
            member: MemberName::new(member),
            addr: ServerAddr::new(&server.addr.ip().to_string(), server.addr.port()),
            socket: server.addr,
            epoch,
            grant: Arc::new(Grant::until(Moment::from_boot(Duration::MAX))),
            admission: Admission::Open,
            counters: Some(self.counters.begin_epoch(epoch)),
            sessions: Arc::default(),
        }
    }

    /// A new epoch. Only a router can number them, so it gets a new leader.
    fn next_epoch(&mut self) -> RouteEpoch {
        self.now += Duration::from_secs(1);
        let now = Moment::from_boot(self.now);
        let (name, addr) = (MemberName::new("a"), ServerAddr::new("a", 5432));
        let member = Member { addr: addr.clone(), no_load_balance: false };
        let key = LeaderKey { holder: name.clone(), create_revision: Revision(self.now.as_secs()) };
        let reply = ProbeReply {
            system_id: SystemId(1),
            started: StartTime(1),
            role: Role::Primary { timeline: Timeline(1), written: pg_leader_proxy_core::Lsn(1) },
        };
        let lease = Some(Stamped { sent: now, fact: Duration::from_secs(20) });
        for observation in [
            Observation::Members([(name.clone(), member)].into()),
            Observation::Initialize(Some(SystemId(1))),
            Observation::LeaderKey { key: Some(key), lease, seen: now },
            Observation::Probe {
                member: name,
                addr,
                socket: Some(([10, 0, 0, 1], 5432).into()),
                sent: now,
                connection: ProbeConnection::New,
                outcome: Ok(reply),
            },
        ] {
            self.epochs.observe(observation, now);
        }
        self.epochs.routing().write.leader().unwrap().epoch()
    }
}

/// The same settings with rules for client addresses.
pub(crate) fn with_access(access: Access) -> SessionSettings {
    SessionSettings { access: Some(Arc::new(access)), ..settings() }
}

/// Networks, from their CIDR notation.
pub(crate) fn networks(of: &[&str]) -> Networks {
    let networks: Vec<_> = of.iter().map(|network| network.parse().unwrap()).collect();
    networks.into()
}

/// A client that connects from this loopback address.
pub(crate) async fn client_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    bounded(socket.connect(to)).await.unwrap()
}

/// A cancel request with a key of this many bytes.
pub(crate) fn cancel_request(key: usize) -> Vec<u8> {
    let length = u32::try_from(12 + key).unwrap();
    [&length.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &[0, 0, 0, 9], &vec![7; key]].concat()
}

/// Runs `work` for at most [`BOUND`].
pub(crate) async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, work).await.expect("a step of the test hung")
}

/// Reads exactly `bytes`.
pub(crate) async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    bounded(stream.read_exact(&mut received)).await.unwrap();
    assert_eq!(received, bytes);
}

/// Reads to the end of the stream, and returns how it ended.
pub(crate) async fn rest(stream: &mut TcpStream) -> (Vec<u8>, Result<(), std::io::ErrorKind>) {
    let mut received = Vec::new();
    let ended = bounded(stream.read_to_end(&mut received)).await;
    (received, ended.map(drop).map_err(|error| error.kind()))
}

/// The SQLSTATE and the text of an ErrorResponse.
pub(crate) fn error(bytes: &[u8]) -> (String, String) {
    assert_eq!(bytes.first(), Some(&b'E'), "not an error: {:?}", String::from_utf8_lossy(bytes));
    let fields: Vec<String> = bytes[5..]
        .split(|byte| *byte == 0)
        .map(|field| String::from_utf8_lossy(field).into_owned())
        .collect();
    let field =
        |name: char| fields.iter().find_map(|field| field.strip_prefix(name)).unwrap_or_default().to_owned();
    (field('C'), format!("{}: {}", field('M'), field('D')))
}
