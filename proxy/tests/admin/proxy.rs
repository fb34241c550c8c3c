//! A proxy without sessions and sources, which decides on made-up observations and answers over TCP.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy::admin::answers::RoutingAnswer;
use pg_leader_proxy::admin::{self, Admin};
use pg_leader_proxy::admission::{Gate, GateLimits, Targets};
use pg_leader_proxy::clock;
use pg_leader_proxy::config::AdminAccess;
use pg_leader_proxy::control::{Control, OBSERVATIONS, Outputs};
use pg_leader_proxy::counters::{Counters, EpochCounters};
use pg_leader_proxy::phase::Phase;
use pg_leader_proxy_core::{
    LeaderKey, Lsn, Member, MemberName, Moment, Observation, Policy, ProbeConnection, ProbeFailure,
    ProbeReply, Revision, Role, ServerAddr, Stamped, StartTime, SystemId, Timeline,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How many connections the admin address may have.
pub(crate) const CONNECTIONS: usize = 64;

/// A proxy without sessions and sources: control and the admin address.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    observations: mpsc::Sender<Observation>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) phase: watch::Sender<Phase>,
    targets: watch::Receiver<Arc<Targets>>,
    pub(crate) access: watch::Sender<AdminAccess>,
    _parts: JoinSet<std::convert::Infallible>,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        Self::with_policy(Policy::default()).await
    }

    pub(crate) async fn with_policy(policy: Policy) -> Self {
        let gate = Gate::new(GateLimits { max_held: 10, max_concurrent_logins: 10 });
        let counters = Arc::new(Counters::default());
        let (outputs, targets, _probe_plan) = Outputs::new(gate.clone(), gate, Arc::clone(&counters));
        let (observations, observed) = mpsc::channel(OBSERVATIONS);
        let (control, handle) = Control::new(policy, observed, outputs);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let phase = watch::Sender::new(Phase::Serving);
        let access = watch::Sender::new(AdminAccess::default());
        let admin = Admin {
            access: access.subscribe(),
            cluster: "main".into(),
            view: handle.viewer(),
            counters: Arc::clone(&counters),
            phase: phase.subscribe(),
            started: clock::now(),
            listening: watch::channel(vec![("write", ([10, 0, 0, 9], 5433).into())]).1,
            logging: None,
        };
        let mut parts = JoinSet::new();
        parts.spawn(control.run());
        parts.spawn(admin::serve(listener, admin, CONNECTIONS));
        Self { addr, observations, counters, phase, targets, access, _parts: parts }
    }

    pub(crate) async fn observe(&self, observations: impl IntoIterator<Item = Observation>) {
        for observation in observations {
            self.observations.send(observation).await.unwrap();
        }
    }

    /// A cluster of two: `a` leads, `b` follows.
    pub(crate) async fn with_leader() -> Self {
        let proxy = Self::start().await;
        let member = |host| Member { addr: ServerAddr::new(host, 5432), no_load_balance: false };
        let members = BTreeMap::from([(name("a"), member("10.0.0.1")), (name("b"), member("10.0.0.2"))]);
        proxy.observe([Observation::Initialize(Some(SystemId(7))), Observation::Members(members)]).await;
        proxy.observe([held("a", 100), primary("a", "10.0.0.1", 1), replica("b", "10.0.0.2")]).await;
        proxy
    }

    /// The counters of the first leader's sessions.
    pub(crate) async fn first_epoch(&self) -> Arc<EpochCounters> {
        // After this answer the observations before it are published.
        let routing: RoutingAnswer = self.json("/routing").await;
        assert_eq!(routing.write.leader.unwrap().epoch, 1);
        self.targets.borrow().write.as_ref().unwrap().counters.clone().unwrap()
    }

    pub(crate) async fn exchange(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.exchange(&format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        (status, body)
    }

    pub(crate) async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        serde_json::from_str(&self.get(path).await.1).unwrap()
    }

    /// The metrics, in the format that a client asks for.
    pub(crate) async fn metrics(&self, accept: &str) -> (String, String) {
        let request = format!("GET /metrics HTTP/1.0\r\nAccept: {accept}\r\n\r\n");
        let (status, head, body) = self.exchange(&request).await;
        assert_eq!(status, 200, "{body}");
        let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
        (content_type.to_owned(), body)
    }

    /// The samples of `/metrics`, by name and labels.
    pub(crate) async fn samples(&self) -> BTreeMap<String, f64> {
        let (_, text) = self.metrics("text/plain").await;
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }
}

pub(crate) fn name(name: &str) -> MemberName {
    MemberName::new(name)
}

pub(crate) fn held(holder: &str, revision: u64) -> Observation {
    let now = clock::now();
    let key = LeaderKey { holder: name(holder), create_revision: Revision(revision) };
    let lease = Stamped { sent: now, fact: Duration::from_secs(30) };
    Observation::LeaderKey { key: Some(key), lease: Some(lease), seen: now }
}

pub(crate) fn probed(member: &str, host: &str, outcome: Result<Role, ProbeFailure>) -> Observation {
    let ip: IpAddr = host.parse().unwrap();
    let started = member.bytes().map(i64::from).sum();
    Observation::Probe {
        member: name(member),
        addr: ServerAddr::new(host, 5432),
        socket: Some(SocketAddr::new(ip, 5432)),
        sent: clock::now(),
        connection: ProbeConnection::Persistent { since: Moment::default() },
        outcome: outcome.map(|role| ProbeReply { system_id: SystemId(7), started: StartTime(started), role }),
    }
}

/// The same over a new connection.
pub(crate) fn probed_anew(member: &str, host: &str, outcome: Result<Role, ProbeFailure>) -> Observation {
    let mut observation = probed(member, host, outcome);
    if let Observation::Probe { connection, .. } = &mut observation {
        *connection = ProbeConnection::New;
    }
    observation
}

pub(crate) fn primary(member: &str, host: &str, timeline: u32) -> Observation {
    probed(member, host, Ok(Role::Primary { timeline: Timeline(timeline), written: Lsn(5000) }))
}

pub(crate) fn replica(member: &str, host: &str) -> Observation {
    let (received, replayed) = (Some(Lsn(4096)), Some(Lsn(4000)));
    let role = Role::Replica { timeline: Some(Timeline(1)), received, replayed, streaming: true };
    probed(member, host, Ok(role))
}

pub(crate) async fn fail_over(proxy: &Proxy) {
    proxy.observe([Observation::Switchover { announced: true }]).await;
    proxy.observe([Observation::LeaderKey { key: None, lease: None, seen: clock::now() }]).await;
    proxy.observe([held("b", 200), primary("b", "10.0.0.2", 2)]).await;
}
