//! Pages that mirror the code: each has what the code has, no less and no more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use docs::{Page, code_spans, repository, rows};
use pg_leader_proxy::counters::RejectionKind;
use pg_leader_proxy_core::{MemberName, ProbeFailure, Reason, SystemId, Timeline};

/// The tests that the page about safety names as its proof.
#[test]
fn every_test_that_stands_for_a_promise_exists() {
    let page = Page::read("docs/src/explanation/safety.md").unwrap();
    let mut functions = BTreeSet::new();
    for directory in ["proxy", "driver-plugin", "clients", "lab"] {
        collect_functions(&repository().join(directory), &mut functions);
    }
    let promises: Vec<&str> =
        page.text.lines().filter(|line| line.starts_with("| ") && line.ends_with('|')).collect();
    let mut named = 0;
    for line in promises {
        let Some(tests) = line.trim_end_matches('|').rsplit('|').next() else { continue };
        for test in code_spans(tests) {
            let exists = match test.strip_suffix(".txt") {
                Some(_) => repository().join("proxy/core/scenarios").join(&test).exists(),
                None => functions.contains(&test),
            };
            assert!(exists, "there is no test {test}");
            named += 1;
        }
    }
    assert!(named > 0 && !rows(&page.text, "What is promised").is_empty());
}

fn collect_functions(directory: &Path, functions: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_functions(&path, functions);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "go") {
            let text = std::fs::read_to_string(&path).unwrap();
            let after = text.split("fn ").skip(1).chain(text.split("func ").skip(1));
            functions.extend(after.filter_map(|rest| rest.split('(').next()).map(str::to_owned));
        }
    }
}

/// One of each reason, as the page writes it.
fn every_reason() -> Vec<Reason> {
    let m = || MemberName::new("M");
    let n = || MemberName::new("N");
    let (timeline, highest) = (Timeline(2), Timeline(3));
    vec![
        Reason::Starting(None),
        Reason::NoLeader,
        Reason::LeaderAddressUnknown(m()),
        Reason::LeaseUnconfirmed(m()),
        Reason::LeaseExpiring(m()),
        Reason::LeaderNotProbed(m()),
        Reason::LeaderInRecovery(m()),
        Reason::LeaderProbeFailed(m(), ProbeFailure::Refused),
        Reason::LeaderSilent(m()),
        Reason::LeaderNotAcceptingConnections(m()),
        Reason::LeaderAmbiguous(m()),
        Reason::SystemIdMismatch(m(), SystemId(7)),
        Reason::Bootstrapping,
        Reason::StandbyCluster,
        Reason::ClockStepped,
        Reason::DcsSilent,
        Reason::NoMembers,
        Reason::SingleMember(m()),
        Reason::MemberAddressUnknown(m()),
        Reason::NotInFailsafe(m()),
        Reason::MemberNotProbed(m()),
        Reason::MemberProbeFailed(m(), ProbeFailure::Refused),
        Reason::MemberSilent(m()),
        Reason::NoPrimary,
        Reason::TwoPrimaries(m(), n()),
        Reason::TimelineBehind { member: m(), timeline, other: n(), highest },
        Reason::NotLastLeader(m()),
        Reason::NoReplica,
        Reason::MemberIsLeader(m()),
        Reason::ReplicaPromoted(m()),
        Reason::MemberRecordGone(m()),
        Reason::ReplicaMoved(m()),
        Reason::ReplicaSilent(m()),
        Reason::ReplicaNotAcceptingConnections(m()),
        Reason::ReplicaTagged(m()),
        Reason::ReplicaLagging(m()),
        Reason::ReplicaNotStreaming(m()),
        Reason::ReplicaRestarted(m()),
        Reason::PausedByOperator,
        Reason::MemberDrained(m()),
    ]
}

#[test]
fn the_page_of_reasons_has_every_reason_in_its_words() {
    let page = Page::read("docs/src/reference/reasons.md").unwrap();
    let told: Vec<(String, String)> =
        rows(&page.text, "Reasons").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let failure = ProbeFailure::Refused.to_string();
    let expected: Vec<(String, String)> = every_reason()
        .iter()
        .map(|reason| (reason.code().to_owned(), reason.to_string().replace(&failure, "…")))
        .collect();
    assert_eq!(told, expected);
    assert_eq!(told.iter().map(|(code, _)| code.as_str()).collect::<Vec<_>>(), Reason::CODES);
}

#[test]
fn the_page_of_reasons_has_every_failure_of_a_probe() {
    let page = Page::read("docs/src/reference/reasons.md").unwrap();
    let told: Vec<(String, String)> = rows(&page.text, "Failures of a probe")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let expected = ProbeFailure::ALL.map(|failure| (failure.code().to_owned(), failure.to_string()));
    assert_eq!(told, expected);
}

#[test]
fn the_page_of_reasons_has_every_rejection() {
    let page = Page::read("docs/src/reference/reasons.md").unwrap();
    let told: Vec<String> = rows(&page.text, "Rejections").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(told, RejectionKind::ALL.map(RejectionKind::code));
}

/// The texts of errors that a page explains, each in the words of the code.
#[test]
fn every_text_of_the_page_of_errors_is_one_that_can_be_seen() {
    let page = Page::read("docs/src/how-to/troubleshooting.md").unwrap();
    let mut code = String::new();
    for directory in ["proxy/src", "proxy/core/src", "driver-plugin/src"] {
        collect_texts(&repository().join(directory), &mut code);
    }
    let (mut told, mut unknown) = (0, Vec::<String>::new());
    for heading in page.text.lines().filter_map(|line| line.strip_prefix("## ")) {
        for row in rows(&page.text, heading) {
            // The words of others: libpq's, PgJDBC's, PostgreSQL's.
            let foreign = ["server ", "The connection attempt", "cannot execute INSERT"];
            if !foreign.iter().any(|words| row[0].starts_with(words)) {
                let parts = row[0].split('…').map(str::trim).filter(|part| !part.is_empty());
                unknown.extend(parts.filter(|part| !code.contains(part)).map(str::to_owned));
                told += 1;
            }
        }
    }
    assert!(unknown.is_empty(), "no error says: {unknown:#?}");
    assert!(told > 40, "{told} texts are told");
}

/// The text of every file, with lines that a string continues on joined.
fn collect_texts(directory: &Path, code: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_texts(&path, code);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            for line in text.lines() {
                match line.strip_suffix('\\') {
                    Some(begun) => code.push_str(begun),
                    None => code.push_str(line.trim_start()),
                }
            }
            code.push('\n');
        }
    }
}
