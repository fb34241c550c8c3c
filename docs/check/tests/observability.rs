//! The alert rules and the dashboard of `nomad/observability` name only what there is, and are explained and tested.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use docs::{DASHBOARD, Page, dashboard, repository};
use pg_leader_proxy::admin::metrics::{GROUPS, Kind};
use serde::Deserialize;
use serde_json::Value;

/// The page with a section for each alert.
const PAGE: &str = "docs/src/how-to/alerts.md";
/// What the name of each alert begins with.
const PREFIX: &str = "PgLeaderProxy";

#[derive(Debug, Deserialize)]
struct RuleFile {
    groups: Vec<RuleGroup>,
}

#[derive(Debug, Deserialize)]
struct RuleGroup {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct TestFile {
    tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
struct Test {
    alert_rule_test: Vec<Expectation>,
}

#[derive(Debug, Deserialize)]
struct Expectation {
    alertname: String,
    exp_alerts: Vec<Value>,
}

fn file(name: &str) -> PathBuf {
    repository().join("nomad/observability").join(name)
}

fn rules() -> Vec<Rule> {
    let text = fs::read_to_string(file("alerts.yaml")).unwrap();
    let file: RuleFile = serde_saphyr::from_str(&text).unwrap();
    file.groups.into_iter().flat_map(|group| group.rules).collect()
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    for arguments in [
        ["check", "rules", "alerts.yaml"],
        ["check", "config", "prometheus.yaml"],
        ["test", "rules", "alerts-test.yaml"],
    ] {
        let ran = Command::new("promtool").args(arguments).current_dir(file("")).output();
        let ran = ran.expect("promtool is missing: lab/install installs it with the package prometheus");
        let text = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && text.contains("SUCCESS"), "{arguments:?}: {text}");
    }
}

#[test]
fn every_alert_is_tested_firing_and_quiet() {
    let text = fs::read_to_string(file("alerts-test.yaml")).unwrap();
    let tests: TestFile = serde_saphyr::from_str(&text).unwrap();
    let expectations: Vec<Expectation> =
        tests.tests.into_iter().flat_map(|test| test.alert_rule_test).collect();
    for rule in rules() {
        let of_rule = || expectations.iter().filter(|expected| expected.alertname == rule.alert);
        assert!(
            of_rule().any(|expected| !expected.exp_alerts.is_empty()),
            "{} is not tested firing",
            rule.alert
        );
        assert!(
            of_rule().any(|expected| expected.exp_alerts.is_empty()),
            "{} is not tested quiet",
            rule.alert
        );
    }
}

#[test]
fn every_alert_has_a_severity_and_a_section_that_says_what_to_do() {
    let page = Page::read(PAGE).unwrap();
    let headings = page.text.lines().filter_map(|line| line.strip_prefix("## "));
    let sections: BTreeSet<String> =
        headings.filter(|heading| heading.starts_with(PREFIX)).map(str::to_owned).collect();
    let rules = rules();
    for Rule { alert, labels, annotations, .. } in &rules {
        let severity = labels.get("severity").map(String::as_str);
        assert!(
            severity.is_some_and(|severity| ["critical", "warning", "info"].contains(&severity)),
            "{alert}"
        );
        assert_eq!(annotations["runbook"], format!("{PAGE}#{}", alert.to_lowercase()));
        assert!(!annotations["summary"].is_empty() && !annotations["description"].is_empty(), "{alert}");
    }
    let names: Vec<String> = rules.into_iter().map(|rule| rule.alert).collect();
    assert_eq!(names.iter().cloned().collect::<BTreeSet<_>>(), sections);
    assert_eq!(names.len(), sections.len(), "an alert has two rules");
}

#[test]
fn rules_and_dashboard_name_only_metrics_and_labels_of_the_table() {
    let mut known: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for metric in GROUPS.iter().flat_map(|group| group.metrics) {
        let endings: &[&str] =
            if metric.kind() == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        for ending in endings {
            known.insert(format!("{}{ending}", metric.full_name()), metric.labels.to_vec());
        }
    }
    let mut named = 0;
    for expr in rules().into_iter().map(|rule| rule.expr).chain(dashboard_queries()) {
        for (name, labels) in selectors(&expr) {
            let of_metric = known.get(&name).unwrap_or_else(|| panic!("there is no metric {name}: {expr}"));
            for label in labels {
                let everywhere = ["cluster", "instance"].contains(&label.as_str());
                assert!(
                    everywhere || of_metric.contains(&label.as_str()),
                    "{name} has no label {label}: {expr}"
                );
            }
            named += 1;
        }
    }
    assert!(named > 50, "{named} metrics are named");
}

fn dashboard_queries() -> Vec<String> {
    let panels = dashboard()["panels"].as_array().unwrap().clone();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// Every metric of ours that an expression names, with the labels in the braces behind it.
fn selectors(expr: &str) -> Vec<(String, Vec<String>)> {
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let mut found = Vec::new();
    for prefix in ["pg_leader_proxy_", "process_"] {
        for (at, _) in expr.match_indices(prefix) {
            if expr[..at].ends_with(is_name) {
                continue;
            }
            let rest = &expr[at..];
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let inside =
                rest[end..].strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
            let labels = inside.split("\",").map(|one| one.chars().take_while(|c| is_name(*c)).collect());
            found.push((rest[..end].to_owned(), labels.filter(|label: &String| !label.is_empty()).collect()));
        }
    }
    found
}

#[test]
fn selectors_are_read() {
    let found = selectors(r#"sum(rate(pg_leader_proxy_a_total{b="1",c!~"x|y"}[1m])) > process_z"#);
    let labels = vec!["b".to_owned(), "c".to_owned()];
    assert_eq!(found, [("pg_leader_proxy_a_total".to_owned(), labels), ("process_z".to_owned(), Vec::new())]);
}

#[test]
fn the_dashboard_is_what_the_program_makes() {
    let text = fs::read_to_string(repository().join(DASHBOARD)).unwrap();
    let committed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(committed, dashboard(), "run `cargo run -p docs`");
}
