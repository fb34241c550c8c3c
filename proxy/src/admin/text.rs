//! Sentences that the page and `status` share.

use pg_leader_proxy_core::display::HumanDuration;

use super::answers::{ConfirmedBy, DcsAnswer, RoutingAnswer, SourcesAnswer};

/// How many changes of leader are shown.
pub(crate) const FAILOVERS_SHOWN: usize = 5;

/// The rule that confirmed the leader, in words.
pub(crate) const fn confirmed_by(rule: ConfirmedBy) -> &'static str {
    match rule {
        ConfirmedBy::Lease => "its lease in etcd and its own answer",
        ConfirmedBy::AllMembers => "the answers of all members",
    }
}

/// What etcd says, in one line.
pub(crate) fn dcs(routing: &RoutingAnswer) -> String {
    let evidence = &routing.evidence;
    if routing.policy.sources == SourcesAnswer::Servers {
        return "without etcd: every member must answer".to_owned();
    }
    let mut line = match (evidence.dcs, evidence.dcs_silent_for_ms) {
        (DcsAnswer::Live, _) => "etcd answers".to_owned(),
        (_, Some(silent)) => format!("etcd has been silent for {}", HumanDuration::from_millis(silent)),
        (_, None) => "etcd has not answered yet".to_owned(),
    };
    if let Some(key) = &evidence.leader_key {
        let held = HumanDuration::from_millis(key.age_ms);
        line.push_str(&format!("; {} has held the leader key for {held}", key.holder));
    }
    if let Some(absent) = evidence.leader_key_absent_for_ms {
        line.push_str(&format!("; no leader key for {}", HumanDuration::from_millis(absent)));
    }
    if let Some(lease) = &evidence.lease {
        let (valid, ago) =
            (HumanDuration::from_millis(lease.valid_for_ms), HumanDuration::from_millis(lease.age_ms));
        line.push_str(&format!("; lease valid for {valid}, confirmed {ago} ago"));
    }
    for (is, what) in [
        (evidence.paused, "maintenance mode (pause)"),
        (evidence.standby_cluster, "standby cluster"),
        (evidence.switchover_requested, "switchover requested"),
    ] {
        if is {
            line.push_str("; ");
            line.push_str(what);
        }
    }
    line
}
