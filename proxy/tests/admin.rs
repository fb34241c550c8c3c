//! The admin address, asked over TCP while a real control decides on made-up observations.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pg_leader_proxy::admin::answers::{
    ConfirmedBy, DcsAnswer, FailoversAnswer, LeaderAnswer, ReasonAnswer, RoutingAnswer, StepKind,
    WriteDecision,
};
use pg_leader_proxy::admin::{self, Admin};
use pg_leader_proxy::admission::{Gate, GateLimits};
use pg_leader_proxy::control::{Control, OBSERVATIONS, Outputs};
use pg_leader_proxy::counters::{Counters, RejectionKind};
use pg_leader_proxy::phase::Phase;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::{cli, clock};
use pg_leader_proxy_core::{
    LeaderKey, Lsn, Member, MemberName, Observation, Policy, ProbeConnection, ProbeFailure, ProbeReply,
    Revision, Role, ServerAddr, Stamped, SystemId, Timeline,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// A proxy without sessions and sources: control and the admin address.
struct Proxy {
    addr: SocketAddr,
    observations: mpsc::Sender<Observation>,
    counters: Arc<Counters>,
    phase: watch::Sender<Phase>,
    _parts: JoinSet<std::convert::Infallible>,
}

impl Proxy {
    async fn start() -> Self {
        let gate = Gate::new(GateLimits { max_held: 10, max_concurrent_logins: 10 });
        let counters = Arc::new(Counters::default());
        let (outlets, _targets, _inquiry) = Outputs::new(gate.clone(), gate, Arc::clone(&counters));
        let (observations, observed) = mpsc::channel(OBSERVATIONS);
        let (control, handle) = Control::new(Policy::default(), observed, outlets);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let phase = watch::Sender::new(Phase::Serving);
        let admin = Admin {
            cluster: "main".into(),
            view: handle.viewer(),
            counters: Arc::clone(&counters),
            phase: phase.subscribe(),
            started: clock::now(),
        };
        let mut parts = JoinSet::new();
        parts.spawn(control.run());
        parts.spawn(admin::serve(listener, admin));
        Self { addr, observations, counters, phase, _parts: parts }
    }

    async fn observe(&self, observations: impl IntoIterator<Item = Observation>) {
        for observation in observations {
            self.observations.send(observation).await.unwrap();
        }
    }

    /// A cluster of two: `a` leads, `b` follows.
    async fn with_leader() -> Self {
        let proxy = Self::start().await;
        let member = |host| Member { addr: ServerAddr::new(host, 5432), no_load_balance: false };
        let members = BTreeMap::from([(name("a"), member("10.0.0.1")), (name("b"), member("10.0.0.2"))]);
        proxy.observe([Observation::Initialize(Some(SystemId(7))), Observation::Members(members)]).await;
        proxy.observe([held("a", 100), primary("a", "10.0.0.1", 1), replica("b", "10.0.0.2")]).await;
        proxy
    }

    async fn exchange(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.exchange(&format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        (status, body)
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        serde_json::from_str(&self.get(path).await.1).unwrap()
    }

    /// The metrics, in the format that a client asks for.
    async fn metrics(&self, accept: &str) -> (String, String) {
        let request = format!("GET /metrics HTTP/1.0\r\nAccept: {accept}\r\n\r\n");
        let (status, head, body) = self.exchange(&request).await;
        assert_eq!(status, 200, "{body}");
        let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
        (content_type.to_owned(), body)
    }

    /// The samples of `/metrics`, by name and labels.
    async fn samples(&self) -> BTreeMap<String, f64> {
        let (_, text) = self.metrics("text/plain").await;
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }
}

fn name(name: &str) -> MemberName {
    MemberName::new(name)
}

fn held(holder: &str, revision: u64) -> Observation {
    let now = clock::now();
    let key = LeaderKey { holder: name(holder), create_revision: Revision(revision) };
    let lease = Stamped { sent: now, fact: Duration::from_secs(30) };
    Observation::LeaderKey { key: Some(key), lease: Some(lease), seen: now }
}

fn probed(member: &str, host: &str, outcome: Result<Role, ProbeFailure>) -> Observation {
    Observation::Probe {
        member: name(member),
        addr: ServerAddr::new(host, 5432),
        sent: clock::now(),
        connection: ProbeConnection::Persistent,
        outcome: outcome.map(|role| ProbeReply { system_id: SystemId(7), role }),
    }
}

fn primary(member: &str, host: &str, timeline: u32) -> Observation {
    probed(member, host, Ok(Role::Primary { timeline: Timeline(timeline), written: Lsn(5000) }))
}

fn replica(member: &str, host: &str) -> Observation {
    let (received, replayed) = (Some(Lsn(4096)), Some(Lsn(4000)));
    let role = Role::Replica { timeline: Some(Timeline(1)), received, replayed, streaming: true };
    probed(member, host, Ok(role))
}

#[tokio::test]
async fn live_ready_and_leader_are_three_answers() {
    let proxy = Proxy::start().await;
    assert_eq!(proxy.get("/live").await, (200, "alive\n".to_owned()));
    assert_eq!(proxy.get("/ready").await, (503, "etcd has not answered yet\n".to_owned()));
    let reason: ReasonAnswer = proxy.json("/leader").await;
    assert_eq!((proxy.get("/leader").await.0, reason.code.as_str()), (503, "starting"));

    let proxy = Proxy::with_leader().await;
    assert_eq!(proxy.get("/ready").await, (200, "ready\n".to_owned()));
    let leader: LeaderAnswer = proxy.json("/leader").await;
    assert_eq!((leader.member.as_str(), leader.address.as_str()), ("a", "10.0.0.1:5432"));
    assert_eq!((leader.timeline, leader.epoch, leader.confirmed_by), (1, 1, ConfirmedBy::Lease));

    proxy.phase.send_replace(Phase::Draining);
    assert_eq!(proxy.get("/ready").await, (503, "draining: no new sessions are accepted\n".to_owned()));
    assert_eq!((proxy.get("/live").await.0, proxy.get("/leader").await.0), (200, 200));
}

#[tokio::test]
async fn a_cluster_without_leader_is_ready_and_says_why_it_holds() {
    let proxy = Proxy::with_leader().await;
    proxy.observe([Observation::LeaderKey { key: None, lease: None, seen: clock::now() }]).await;
    assert_eq!(proxy.get("/ready").await.0, 200);
    let (status, body) = proxy.get("/leader").await;
    let reason: ReasonAnswer = serde_json::from_str(&body).unwrap();
    assert_eq!((status, reason.text.as_str()), (503, "no member holds the leader key"));
}

#[tokio::test]
async fn routing_shows_the_decision_and_every_piece_of_evidence() {
    let proxy = Proxy::with_leader().await;
    let routing: RoutingAnswer = proxy.json("/routing").await;
    assert_eq!((routing.cluster.as_str(), routing.phase), ("main", Phase::Serving));
    assert_eq!((routing.write.decision, routing.write.reason), (WriteDecision::Forward, None));
    assert!(routing.write.valid_for_ms.unwrap() <= 5000);
    assert_eq!(routing.read.servers.iter().filter(|server| server.new_sessions).count(), 1);
    let evidence = &routing.evidence;
    assert_eq!((evidence.dcs, evidence.system_identifier.as_deref()), (DcsAnswer::Live, Some("7")));
    assert_eq!(evidence.leader_key.as_ref().unwrap().holder, "a");
    assert!(evidence.lease.as_ref().unwrap().valid_for_ms > 20_000);
    let [a, b] = evidence.members.as_slice() else { panic!("{evidence:?}") };
    assert_eq!((a.summary.as_str(), a.healthy, a.leader), ("leader, healthy", true, true));
    assert_eq!((b.summary.as_str(), b.healthy, b.leader), ("replica, healthy", true, false));
    let probe = b.last_probe.as_ref().unwrap();
    assert_eq!((probe.lag_bytes, probe.replayed_lsn.as_deref()), (Some(1000), Some("0/FA0")));
    assert!(probe.age_ms < 5000);
    assert_eq!(routing.policy.max_probe_age_ms, 5000);

    proxy.observe([probed("b", "10.0.0.2", Err(ProbeFailure::Refused))]).await;
    let routing: RoutingAnswer = proxy.json("/routing").await;
    let b = &routing.evidence.members[1];
    assert_eq!((b.summary.as_str(), b.healthy), ("refuses connections", false));
    assert_eq!(b.probe_failure.as_ref().unwrap().code, "refused");
}

async fn fail_over(proxy: &Proxy) {
    proxy.observe([Observation::Switchover { announced: true }]).await;
    proxy.observe([Observation::LeaderKey { key: None, lease: None, seen: clock::now() }]).await;
    proxy.observe([held("b", 200), primary("b", "10.0.0.2", 2)]).await;
}

#[tokio::test]
async fn a_failover_is_told_step_by_step() {
    let proxy = Proxy::with_leader().await;
    fail_over(&proxy).await;
    let failovers: FailoversAnswer = proxy.json("/failovers").await;
    assert_eq!(failovers.total, 1);
    let [failover] = failovers.failovers.as_slice() else { panic!("{failovers:?}") };
    assert_eq!((failover.from.member.as_str(), failover.from_epoch), ("a", 1));
    let to = failover.to.as_ref().unwrap();
    assert_eq!((to.member.as_str(), to.timeline, failover.to_epoch), ("b", 2, Some(2)));
    assert_eq!(failover.cause.code, "no_leader");
    let steps: Vec<StepKind> = failover.steps.iter().map(|step| step.step).collect();
    assert_eq!(
        steps,
        [
            StepKind::SwitchoverRequested,
            StepKind::LeaderKeyDeleted,
            StepKind::ForwardingStopped,
            StepKind::LeaderKeyTaken,
            StepKind::LeftRecovery,
            StepKind::ForwardingStarted
        ]
    );
    assert!(failover.steps[0].at_ms <= 0 && failover.steps[5].at_ms >= 0);
    assert!(failover.write_downtime_ms.is_some() && failover.age_ms < 10_000);
}

/// A proxy after a change of leader, with something in every metric.
async fn measured() -> Proxy {
    let proxy = Proxy::with_leader().await;
    fail_over(&proxy).await;
    let write = proxy.counters.route(RouteKind::Write);
    write.accepted.add(3);
    write.open.increment();
    write.rejections(RejectionKind::TooManyHeld).add(2);
    write.bytes_to_client.add(4096);
    write.held_time.record(Duration::from_millis(1500));
    write.connect_time.record(Duration::from_millis(2));
    proxy
}

#[tokio::test]
async fn metrics_can_be_read_back() {
    let samples = measured().await.samples().await;
    let expected = [
        ("sessions{cluster=\"main\",route=\"write\"}", 1.0),
        ("accepted_connections_total{cluster=\"main\",route=\"write\"}", 3.0),
        ("rejections_total{cluster=\"main\",route=\"write\",reason=\"too_many_held\"}", 2.0),
        ("relayed_bytes_total{cluster=\"main\",route=\"write\",direction=\"to_client\"}", 4096.0),
        ("held_seconds_count{cluster=\"main\",route=\"write\"}", 1.0),
        ("held_seconds_sum{cluster=\"main\",route=\"write\"}", 1.5),
        ("held_seconds_bucket{cluster=\"main\",route=\"write\",le=\"1\"}", 0.0),
        ("held_seconds_bucket{cluster=\"main\",route=\"write\",le=\"2.5\"}", 1.0),
        ("connect_seconds_count{cluster=\"main\",route=\"write\"}", 1.0),
        ("write_downtime_seconds_count{cluster=\"main\"}", 1.0),
        ("leader_changes_total{cluster=\"main\"}", 1.0),
        ("member_leader{cluster=\"main\",member=\"b\"}", 1.0),
        ("member_leader{cluster=\"main\",member=\"a\"}", 0.0),
        ("member_timeline{cluster=\"main\",member=\"b\"}", 2.0),
        ("route_epoch{cluster=\"main\"}", 2.0),
        ("hold_reason{cluster=\"main\",reason=\"no_leader\"}", 0.0),
        ("two_primaries{cluster=\"main\"}", 1.0),
        ("dcs_live{cluster=\"main\"}", 1.0),
    ];
    for (name, value) in expected {
        let name = format!("pg_leader_proxy_{name}");
        assert_eq!(samples.get(&name), Some(&value), "{name} in {samples:#?}");
    }
    assert!(samples["pg_leader_proxy_last_probe_age_seconds{cluster=\"main\",member=\"b\"}"] < 5.0);
    assert!(samples["pg_leader_proxy_lease_confirmed_age_seconds{cluster=\"main\"}"] < 5.0);
    for name in samples.keys() {
        assert!(name.starts_with("pg_leader_proxy_") && name.contains("cluster=\"main\""), "{name}");
    }
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let proxy = measured().await;
    let (content_type, text) = proxy.metrics("*/*").await;
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert!(!text.contains("# EOF"));
    let wanted = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let (content_type, text) = proxy.metrics(wanted).await;
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let (_, text) = measured().await.metrics("text/plain").await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: lab/install installs it with the package prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let found = promtool.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&found.stdout).into_owned() + &String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success() && words.is_empty(), "{words}\n{text}");
}

#[tokio::test]
async fn the_page_is_for_people_and_runs_nothing_that_it_shows() {
    let proxy = Proxy::with_leader().await;
    let odd = Member { addr: ServerAddr::new("10.0.0.3", 5432), no_load_balance: false };
    let (_, head, page) = proxy.exchange("GET / HTTP/1.0\r\n\r\n").await;
    assert!(head.contains("default-src 'none'") && head.contains("text/html"), "{head}");
    assert!(page.contains("<title>main · pg-leader-proxy</title>"), "{page}");
    assert!(page.contains("go to <b>a</b> at 10.0.0.1:5432"));
    assert!(page.contains("replica, healthy") && !page.contains("DOWN") && !page.contains("<script"));
    proxy.observe([Observation::Members(BTreeMap::from([(name("<script>"), odd)]))]).await;
    let (_, page) = proxy.get("/").await;
    assert!(page.contains("&#60;script&#62;") && !page.contains("<script"), "{page}");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let proxy = Proxy::start().await;
    let (status, body) = proxy.get("/leaders").await;
    assert_eq!(status, 404);
    for path in ["/live", "/ready", "/leader", "/routing", "/failovers", "/metrics"] {
        assert!(body.contains(path), "{body}");
    }
    assert_eq!(proxy.exchange("POST /leader HTTP/1.0\r\n\r\n").await.0, 405);
    assert_eq!(proxy.exchange("HEAD /live HTTP/1.0\r\n\r\n").await.0, 200);
    let long = format!("GET /live HTTP/1.0\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    // It may hang up in the middle of so long a request.
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.0 200"));
}

#[tokio::test]
async fn a_client_that_sends_nothing_keeps_nobody_else_out() {
    let proxy = Proxy::start().await;
    let mut silent = Vec::new();
    for _ in 0..63 {
        silent.push(TcpStream::connect(proxy.addr).await.unwrap());
    }
    assert_eq!(proxy.get("/live").await.0, 200);
    silent.push(TcpStream::connect(proxy.addr).await.unwrap());
    // With every place taken the next one waits, until the first of the silent ones has had its time.
    assert_eq!(proxy.get("/live").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_what_the_proxy_answers() {
    let proxy = Proxy::with_leader().await;
    fail_over(&proxy).await;
    let admin = format!("http://{}", proxy.addr);
    let run = move |more: &'static [&'static str]| {
        let line = ["pg-leader-proxy", "status", "--admin", &admin].into_iter().chain(more.iter().copied());
        let start = cli::Start { arguments: line.map(str::to_owned).collect(), ..Default::default() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = cli::answer(&start, &mut out, &mut err);
        (exit, String::from_utf8(out).unwrap())
    };
    let told = tokio::task::spawn_blocking(move || (run(&[]), run(&["--json"]))).await.unwrap();
    let ((exit, text), (_, json)) = told;
    assert_eq!(exit, cli::Exit::Success);
    assert!(
        text.starts_with("cluster main (pg-leader-proxy ")
            && text.contains("\n\nwrites go to b at 10.0.0.2:5432\n"),
        "{text}"
    );
    for line in [
        "timeline 2, epoch 2, confirmed by its lease in etcd and its own answer; valid for ",
        "etcd answers; b has held the leader key for ",
        "lease valid for ",
        "last probe ",
        "changes of leader: 1",
        "a -> b",
        "write downtime ",
        "b took the leader key",
        "forwarding to b started",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["routing"]["write"]["leader"]["member"], "b");
    assert_eq!(json["failovers"]["total"], 1);
}
