//! The admin address, asked over TCP while a real control decides on made-up observations.
#![allow(clippy::unwrap_used)]

mod access;
mod metrics;
mod page;
mod proxy;

use std::collections::BTreeMap;
use std::time::Duration;

use pg_leader_proxy::admin::answers::{
    AskedAs, ConfirmedBy, DcsAnswer, FailoversAnswer, LeaderAnswer, PrimaryAnswer, ReasonAnswer,
    RoutingAnswer, StepKind, WriteDecision,
};
use pg_leader_proxy::counters::TerminationKind;
use pg_leader_proxy::phase::Phase;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::{cli, clock};
use pg_leader_proxy_core::{Lsn, Member, Observation, ProbeFailure, Role, ServerAddr, SessionEnd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use proxy::{CONNECTIONS, Proxy, fail_over, name, primary, probed};

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
    assert_eq!(routing.listening["write"], [([10, 0, 0, 9], 5433).into()]);
    assert_eq!((routing.write.decision, routing.write.reason), (WriteDecision::Forward, None));
    let valid_for = routing.write.valid_for_ms.unwrap();
    assert!((20_000..=28_000).contains(&valid_for), "by the lease alone: {valid_for}");
    assert_eq!(routing.write.leader.unwrap().socket, "10.0.0.1:5432");
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
    assert_eq!(routing.alarms, []);

    let a = Member { addr: ServerAddr::new("10.0.0.1", 5432), no_load_balance: false };
    proxy.observe([Observation::Members(BTreeMap::from([(name("a"), a)]))]).await;
    proxy.observe([probed("a", "10.0.0.1", Err(ProbeFailure::Denied))]).await;
    let routing: RoutingAnswer = proxy.json("/routing").await;
    let asked: Vec<AskedAs> = routing.evidence.members.iter().map(|member| member.asked_as).collect();
    assert_eq!(asked, [AskedAs::Listed, AskedAs::Departed], "a member that left is still probed, and shown");
    let [alarm] = routing.alarms.as_slice() else { panic!("{:?}", routing.alarms) };
    assert_eq!((alarm.code.as_str(), alarm.member.as_deref()), ("monitor_denied", Some("a")));
}

#[tokio::test]
async fn a_timeline_that_is_hidden_from_the_monitoring_user_is_unknown_everywhere() {
    let proxy = Proxy::with_leader().await;
    let lsn = Some(Lsn(4000));
    let hidden = Role::Replica { timeline: None, received: lsn, replayed: lsn, streaming: true };
    proxy.observe([probed("b", "10.0.0.2", Ok(hidden))]).await;
    let routing: serde_json::Value = proxy.json("/routing").await;
    let timeline = |member: usize| &routing["evidence"]["members"][member]["last_probe"]["timeline"];
    assert_eq!(timeline(0), 1);
    let last_probe = routing["evidence"]["members"][1]["last_probe"].as_object().unwrap();
    assert_eq!(last_probe.get("timeline"), Some(&serde_json::Value::Null));
    let (_, page) = proxy.get("/").await;
    let row = |member: &str| {
        let first = format!("<td><b>{member}</b>");
        page.lines().skip_while(|line| !line.contains(&first)).take(4).collect::<String>()
    };
    assert!(row("a").contains("<td data-label=\"timeline\" class=\"number\">1</td>"), "{}", row("a"));
    assert!(row("b").contains("<td data-label=\"timeline\" class=\"number\">unknown</td>"), "{}", row("b"));
    let samples = proxy.samples().await;
    let metric = |member: &str| {
        samples.get(&format!("pg_leader_proxy_member_timeline{{cluster=\"main\",member=\"{member}\"}}"))
    };
    assert_eq!((metric("a"), metric("b")), (Some(&1.0), None));
}

#[tokio::test]
async fn two_primaries_are_named_with_their_timelines() {
    let proxy = Proxy::with_leader().await;
    proxy.observe([primary("b", "10.0.0.2", 2)]).await;
    let routing: RoutingAnswer = proxy.json("/routing").await;
    let named = |(member, timeline): (&str, u32)| PrimaryAnswer { member: member.to_owned(), timeline };
    assert_eq!(routing.two_primaries, [("a", 1), ("b", 2)].map(named));
    let (_, page) = proxy.get("/").await;
    let told = "<b>Alarm:</b> two primaries: a (timeline 1), b (timeline 2)</p>";
    assert!(page.contains(told), "{page}");
    assert!(page.contains("out of recovery, but not the leader"), "{page}");
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
async fn clients_that_send_nothing_keep_nobody_out() {
    let proxy = Proxy::start().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(proxy.addr).await.unwrap());
    }
    // For each answer the oldest of them has to go, at once.
    for path in ["/live", "/ready", "/leader"] {
        let answer = tokio::time::timeout(Duration::from_secs(3), proxy.get(path)).await;
        assert!(answer.is_ok(), "{path} is not answered");
    }
    let mut ended = Vec::new();
    for client in &mut silent {
        ended.push(tokio::time::timeout(Duration::from_millis(10), client.read_u8()).await.is_ok());
    }
    assert!(ended[0] && !ended[CONNECTIONS - 1], "the oldest are closed, and no others");
}

#[tokio::test]
async fn health_checks_may_ask_by_options() {
    let proxy = Proxy::with_leader().await;
    for path in ["/live", "/ready", "/leader", "/primary", "/replica"] {
        assert_eq!(proxy.exchange(&format!("OPTIONS {path} HTTP/1.0\r\n\r\n")).await.0, 200, "{path}");
        assert_eq!(proxy.get(path).await.0, 200, "{path}");
    }
    let starting = Proxy::start().await;
    for path in ["/ready", "/leader", "/primary", "/replica"] {
        assert_eq!(starting.exchange(&format!("OPTIONS {path} HTTP/1.0\r\n\r\n")).await.0, 503, "{path}");
    }
}

#[tokio::test]
async fn sessions_and_changes_of_leader_tell_the_same_number() {
    let proxy = Proxy::with_leader().await;
    let epoch = proxy.first_epoch().await;
    // A switchover: the server ends three of four sessions itself, the last of them after its epoch has ended.
    let lost = |count| (0..count).map(|_| epoch.record_lost(clock::now())).sum::<u64>();
    let write = proxy.counters.route(RouteKind::Write);
    let ended = write.terminations(TerminationKind::EndedByServer);
    ended.add(lost(2));
    fail_over(&proxy).await;
    assert_eq!(proxy.json::<FailoversAnswer>("/failovers").await.total, 1);
    ended.add(lost(1));
    write.terminations(TerminationKind::Server(SessionEnd::NoLongerLeader)).increment();
    epoch.record_terminated();
    let failovers: FailoversAnswer = proxy.json("/failovers").await;
    let routing: RoutingAnswer = proxy.json("/routing").await;
    assert_eq!((failovers.failovers[0].terminated_sessions, routing.sessions["write"].terminated), (4, 4));
    let (_, page) = proxy.get("/").await;
    assert!(page.contains("4 sessions terminated"), "{page}");
    let columns: Vec<&str> = routing.sessions.keys().map(String::as_str).collect();
    let row = page.lines().find(|line| line.contains("<td>terminated</td>")).unwrap();
    assert_eq!(columns, ["read", "write"]);
    assert!(row.ends_with("<td class=\"number\">0</td><td class=\"number\">4</td></tr>"), "{row}");
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
        "LAST PROBE",
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
