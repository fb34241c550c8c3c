//! The metrics: their values, their formats, and the page of the documentation that lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use pg_leader_proxy::admin::answers::RoutingAnswer;
use pg_leader_proxy::counters::{RejectionKind, TerminationKind};
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy_core::{Policy, PolicyOptions, ProbeFailure, Sources};

use super::proxy::{Proxy, fail_over, name, primary, probed_anew};

/// A proxy after a change of leader, with something in every metric.
async fn measured() -> Proxy {
    let proxy = Proxy::with_leader().await;
    fail_over(&proxy).await;
    // After this answer control knows the members, and keeps what is counted of them.
    proxy.json::<RoutingAnswer>("/routing").await;
    let write = proxy.counters.route(RouteKind::Write);
    write.accepted.add(3);
    write.open.increment();
    write.rejections(RejectionKind::TooManyHeld).add(2);
    write.terminations(TerminationKind::EndedByServer).add(5);
    write.held_time.record(Duration::from_millis(1500));
    RouteKind::ALL.iter().for_each(|route| proxy.counters.route(*route).listening.set(1));
    proxy.counters.max_sessions.set(1000);
    proxy.counters.add_worker().add(RouteKind::Write, [512, 4096]);
    let member = proxy.counters.member(&name("b"));
    let on_route = member.route(RouteKind::Write);
    on_route.open.increment();
    on_route.connect_time.record(Duration::from_millis(2));
    on_route.login_time.record(Duration::from_millis(20));
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
        ("terminated_sessions_total{cluster=\"main\",route=\"write\",reason=\"ended_by_server\"}", 5.0),
        ("terminated_sessions_total{cluster=\"main\",route=\"read\",reason=\"promoted\"}", 0.0),
        ("member_sessions{cluster=\"main\",route=\"write\",member=\"b\"}", 1.0),
        ("max_sessions{cluster=\"main\"}", 1000.0),
        ("held_seconds_count{cluster=\"main\",route=\"write\"}", 1.0),
        ("held_seconds_sum{cluster=\"main\",route=\"write\"}", 1.5),
        ("held_seconds_bucket{cluster=\"main\",route=\"write\",le=\"1\"}", 0.0),
        ("held_seconds_bucket{cluster=\"main\",route=\"write\",le=\"2.5\"}", 1.0),
        ("connect_seconds_count{cluster=\"main\",route=\"write\",member=\"b\"}", 1.0),
        ("connect_seconds_count{cluster=\"main\",route=\"read\",member=\"b\"}", 0.0),
        ("login_seconds_sum{cluster=\"main\",route=\"write\",member=\"b\"}", 0.02),
        ("write_downtime_seconds_count{cluster=\"main\",member=\"b\"}", 1.0),
        ("write_downtime_seconds_count{cluster=\"main\",member=\"a\"}", 0.0),
        ("leader_changes_total{cluster=\"main\"}", 1.0),
        ("member_leader{cluster=\"main\",member=\"b\"}", 1.0),
        ("member_leader{cluster=\"main\",member=\"a\"}", 0.0),
        ("member_timeline{cluster=\"main\",member=\"b\"}", 2.0),
        ("route_epoch{cluster=\"main\"}", 2.0),
        ("hold_reason{cluster=\"main\",route=\"write\",reason=\"no_leader\"}", 0.0),
        ("hold_reason{cluster=\"main\",route=\"read\",reason=\"no_replica\"}", 1.0),
        ("read_servers{cluster=\"main\"}", 0.0),
        ("two_primaries{cluster=\"main\"}", 1.0),
        ("alarm{cluster=\"main\",alarm=\"two_primaries\"}", 1.0),
        ("alarm{cluster=\"main\",alarm=\"monitor_denied\"}", 0.0),
        ("dcs_live{cluster=\"main\"}", 1.0),
    ];
    for (name, value) in expected {
        let name = format!("pg_leader_proxy_{name}");
        assert_eq!(samples.get(&name), Some(&value), "{name} in {samples:#?}");
    }
    assert!(samples["pg_leader_proxy_last_probe_age_seconds{cluster=\"main\",member=\"b\"}"] < 5.0);
    assert!(samples["pg_leader_proxy_lease_confirmed_age_seconds{cluster=\"main\"}"] < 5.0);
    for name in samples.keys() {
        let named = ["pg_leader_proxy_", "process_"].iter().any(|prefix| name.starts_with(prefix));
        assert!(named && name.contains("cluster=\"main\""), "{name}");
    }
    assert!(samples["process_resident_memory_bytes{cluster=\"main\"}"] > 100_000.0);
}

#[tokio::test]
async fn a_monitor_that_can_no_longer_log_in_is_seen_while_the_kept_connection_answers() {
    let proxy = Proxy::with_leader().await;
    proxy.observe([probed_anew("a", "10.0.0.1", Err(ProbeFailure::Denied))]).await;
    proxy.observe([primary("a", "10.0.0.1", 1)]).await;
    let samples = proxy.samples().await;
    let failures = |connection| {
        let labels = format!("cluster=\"main\",member=\"a\",connection=\"{connection}\",code=\"denied\"");
        samples[&format!("pg_leader_proxy_probe_failures_total{{{labels}}}")]
    };
    assert!(failures("new") == 1.0 && failures("persistent") == 0.0);
    assert!(samples["pg_leader_proxy_alarm{cluster=\"main\",alarm=\"monitor_denied\"}"] == 1.0);
    assert!(samples["pg_leader_proxy_member_leader{cluster=\"main\",member=\"a\"}"] == 1.0, "sessions go on");
}

#[tokio::test]
async fn a_route_that_listens_nowhere_does_not_wait_and_without_etcd_none_is_silent() {
    let samples = Proxy::with_leader().await.samples().await;
    let begins =
        |name: &str| samples.keys().any(|known| known.starts_with(&format!("pg_leader_proxy_{name}{{")));
    assert!(!begins("hold_reason") && !begins("read_servers") && begins("dcs_live"));
    let proxy = Proxy::with_policy(without_etcd()).await;
    proxy.counters.route(RouteKind::Read).listening.set(1);
    let samples = proxy.samples().await;
    let begins =
        |name: &str| samples.keys().any(|known| known.starts_with(&format!("pg_leader_proxy_{name}{{")));
    assert!(begins("hold_reason") && begins("read_servers") && !begins("dcs_live"));
}

fn without_etcd() -> Policy {
    Policy::new(PolicyOptions { sources: Sources::ServersOnly, ..PolicyOptions::default() }).unwrap()
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

/// What the page says of a metric beside its name.
#[derive(Debug, PartialEq, Eq)]
struct Described {
    metric_type: String,
    labels: BTreeSet<String>,
    unit: String,
    meaning: String,
    worry: String,
}

/// Every metric of an exposition by name, without the prefix and the label `cluster` that all of them have.
fn described(text: &str) -> BTreeMap<String, Described> {
    let mut metrics: BTreeMap<String, Described> = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            name.trim_start_matches("pg_leader_proxy_").clone_into(&mut family);
            let (meaning, worry) = help.trim_end_matches('.').split_once(". When to worry: ").unwrap();
            let (unit, meaning, worry) = (unit(name).to_owned(), meaning.to_owned(), worry.to_owned());
            let new = Described { metric_type: String::new(), labels: BTreeSet::new(), unit, meaning, worry };
            metrics.insert(family.clone(), new);
        } else if let Some(found) = line.strip_prefix("# TYPE ") {
            found.rsplit(' ').next().unwrap().clone_into(&mut metrics.get_mut(&family).unwrap().metric_type);
        } else if let Some((_, labels)) = line.split_once('{') {
            let names = labels.split("\",").filter_map(|label| Some(label.split_once("=\"")?.0.to_owned()));
            let names = names.filter(|name| name != "cluster" && name != "le");
            metrics.get_mut(&family).unwrap().labels.extend(names);
        }
    }
    metrics
}

/// The unit that a name ends with, as Prometheus wants it.
fn unit(name: &str) -> &'static str {
    match name.trim_end_matches("_total").rsplit('_').next() {
        Some("seconds") => "seconds",
        Some("bytes") => "bytes",
        _ => "",
    }
}

/// The rows of the page of metrics.
fn rows(page: &str) -> BTreeMap<String, Described> {
    let made = page.split("<!-- made: ").find(|part| part.starts_with("metrics -->")).unwrap();
    let table = made.lines().filter(|line| line.starts_with("| `"));
    table
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [name, metric_type, labels, unit, meaning, worry] = cells[..] else { panic!("{line}") };
            let labels = labels.split(", ").filter(|label| !label.is_empty());
            let row = Described {
                metric_type: metric_type.to_owned(),
                labels: labels.map(|label| label.trim_matches('`').to_owned()).collect(),
                unit: unit.to_owned(),
                meaning: meaning.to_owned(),
                worry: worry.trim_end_matches('.').to_owned(),
            };
            (name.trim_matches('`').to_owned(), row)
        })
        .collect()
}

fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/reference/metrics.md")).unwrap()
}

#[tokio::test]
async fn the_page_of_metrics_lists_every_metric_as_it_is() {
    let (_, text) = measured().await.metrics("text/plain").await;
    let (_, with_replica) = Proxy::with_leader().await.metrics("text/plain").await;
    let mut exposed = described(&text);
    // Only a replica has a lag, and after the failover there is none.
    for (name, metric) in described(&with_replica) {
        exposed.get_mut(&name).unwrap().labels.extend(metric.labels);
    }
    assert_eq!(rows(&page()), exposed);
}
