//! Sentences that the page and `status` share.

use pg_leader_proxy_core::display::HumanDuration;

use super::answers::{ConfirmedBy, DcsAnswer, LeaseAnswer, RoutingAnswer, SourcesAnswer};

/// How many changes of leader `status` shows.
pub(crate) const FAILOVERS_SHOWN: usize = 5;

/// The rule that confirmed the leader, in words.
pub(crate) const fn confirmed_by(rule: ConfirmedBy) -> &'static str {
    match rule {
        ConfirmedBy::Lease => "its lease in etcd and its own answer",
        ConfirmedBy::AllMembers => "the answers of all members",
    }
}

/// Why writes go to a leader, in words.
pub(crate) const fn why(rule: ConfirmedBy) -> &'static str {
    match rule {
        ConfirmedBy::Lease => {
            "because it holds the leader key, its lease is valid, and it answers that it is not in recovery"
        }
        ConfirmedBy::AllMembers => "because every member answers, and it alone is not in recovery",
    }
}

/// For how long a lease is still valid.
pub(crate) fn lease(lease: &LeaseAnswer) -> String {
    let [valid, ago] = [lease.valid_for_ms, lease.age_ms].map(HumanDuration::from_millis);
    format!("lease valid for {valid}, confirmed {ago} ago")
}

/// What etcd says, in one line.
pub(crate) fn dcs(routing: &RoutingAnswer) -> String {
    let lease = routing.evidence.lease.as_ref().map(lease);
    leader_key(routing).into_iter().chain(lease).chain(modes(routing)).collect::<Vec<_>>().join("; ")
}

/// The same without the lease.
pub(crate) fn dcs_without_lease(routing: &RoutingAnswer) -> String {
    leader_key(routing).into_iter().chain(modes(routing)).collect::<Vec<_>>().join("; ")
}

/// Whether etcd answers, and what it says of the leader key.
fn leader_key(routing: &RoutingAnswer) -> Vec<String> {
    let evidence = &routing.evidence;
    if routing.policy.sources == SourcesAnswer::Servers {
        return vec!["without etcd: every member must answer".to_owned()];
    }
    let mut told = vec![match (evidence.dcs, evidence.dcs_silent_for_ms) {
        (DcsAnswer::Live, _) => "etcd answers".to_owned(),
        (_, Some(silent)) => format!("etcd has been silent for {}", HumanDuration::from_millis(silent)),
        (_, None) => "etcd has not answered yet".to_owned(),
    }];
    if let Some(key) = &evidence.leader_key {
        let held = HumanDuration::from_millis(key.age_ms);
        told.push(format!("{} has held the leader key for {held}", key.holder));
    }
    if let Some(absent) = evidence.leader_key_absent_for_ms {
        told.push(format!("no leader key for {}", HumanDuration::from_millis(absent)));
    }
    told
}

/// What the cluster is in besides.
fn modes(routing: &RoutingAnswer) -> impl Iterator<Item = String> {
    let evidence = &routing.evidence;
    let modes = [
        (evidence.paused, "maintenance mode (pause)"),
        (evidence.standby_cluster, "standby cluster"),
        (evidence.switchover_requested, "switchover requested"),
    ];
    modes.into_iter().filter(|(is, _)| *is).map(|(_, what)| what.to_owned())
}
