//! What is known of each member, and in words whether that is as it should be.

use pg_leader_proxy_core::{
    Evidence, Leader, Lsn, Member, MemberName, Moment, ProbeFailure, ProbeReply, Role, ServerView, Stamped,
};

use super::answers::{FailureAnswer, MemberAnswer, WordAnswer};
use super::routing::ms;
use crate::control::View;

/// Every member, in the order of their names.
pub(super) fn members(view: &View) -> Vec<MemberAnswer> {
    let newest = newest_lsn(view);
    view.evidence.members().iter().map(|(name, member)| answer(view, name, member, newest)).collect()
}

fn answer(view: &View, name: &MemberName, member: &Member, newest: Option<Lsn>) -> MemberAnswer {
    let testimony = view.evidence.server(name);
    let leader = view.routing.write.leader().map(Leader::member) == Some(name);
    let summary = summary(view, name, testimony, leader);
    MemberAnswer {
        member: name.to_string(),
        address: member.addr.to_string(),
        leader,
        healthy: summary.healthy,
        summary: summary.text,
        no_load_balance: member.no_load_balance,
        word: testimony.and_then(|known| known.reply).map(|word| word_answer(word, newest, view.now)),
        failure: testimony.and_then(|known| known.failure).map(|failure| failure_answer(failure, view.now)),
        takes_no_connections: testimony
            .and_then(|known| known.connect_failure)
            .map(|failure| failure_answer(failure, view.now)),
    }
}

/// A member in a few words.
struct Summary {
    healthy: bool,
    text: String,
}

impl Summary {
    fn well(text: &str) -> Self {
        Self { healthy: true, text: text.to_owned() }
    }

    fn ill(text: impl Into<String>) -> Self {
        Self { healthy: false, text: text.into() }
    }
}

/// What a person wants to read. A replica that does its work is healthy: it is not "down" because no writes go there.
fn summary(view: &View, name: &MemberName, testimony: Option<&ServerView>, leader: bool) -> Summary {
    let limit = view.policy.options().max_probe_age;
    let Some(testimony) = testimony else { return Summary::ill("not asked yet") };
    let Some(word) = testimony.fresh_reply(view.now, limit) else {
        return match testimony.failure {
            Some(failure) => Summary::ill(failure.fact.to_string()),
            None if testimony.reply.is_some() => Summary::ill("has fallen silent"),
            None => Summary::ill("not asked yet"),
        };
    };
    if view.evidence.initialize().is_some_and(|id| id != word.fact.system_id) {
        return Summary::ill("belongs to another cluster");
    }
    let holder = view.evidence.leader_key().is_some_and(|key| key.fact.holder == *name);
    match word.fact.role {
        _ if testimony.connect_failure.is_some() => Summary::ill("takes no new connections"),
        Role::Primary { .. } if leader => Summary::well("leader, healthy"),
        Role::Primary { .. } if holder => Summary::ill("holds the leader key, not confirmed"),
        Role::Primary { .. } => Summary::ill("out of recovery, but not the leader"),
        Role::Replica { .. } if holder && view.evidence.config().standby_cluster => {
            Summary::well("standby leader, healthy")
        }
        Role::Replica { .. } if holder => Summary::ill("holds the leader key, still in recovery"),
        Role::Replica { streaming: false, .. } => Summary::ill("replica, not streaming"),
        Role::Replica { streaming: true, .. } => Summary::well("replica, healthy"),
    }
}

fn word_answer(word: Stamped<ProbeReply>, newest: Option<Lsn>, now: Moment) -> WordAnswer {
    let text = |lsn: Lsn| lsn.to_string();
    let base = WordAnswer {
        role: "primary".to_owned(),
        system_id: word.fact.system_id.to_string(),
        timeline: word.fact.timeline().map(|timeline| timeline.0),
        written: None,
        received: None,
        replayed: None,
        streaming: None,
        lag_bytes: None,
        age_ms: ms(now.since(word.sent)),
    };
    match word.fact.role {
        Role::Primary { written, .. } => WordAnswer { written: Some(text(written)), ..base },
        Role::Replica { received, replayed, streaming, .. } => WordAnswer {
            role: "replica".to_owned(),
            received: received.map(text),
            replayed: replayed.map(text),
            streaming: Some(streaming),
            lag_bytes: newest.zip(replayed).map(|(newest, replayed)| newest.0.saturating_sub(replayed.0)),
            ..base
        },
    }
}

fn failure_answer(failure: Stamped<ProbeFailure>, now: Moment) -> FailureAnswer {
    FailureAnswer {
        code: failure.fact.code().to_owned(),
        text: failure.fact.to_string(),
        age_ms: ms(now.since(failure.sent)),
    }
}

/// The end of the log as far as anybody knows.
fn newest_lsn(view: &View) -> Option<Lsn> {
    fresh_replies(&view.evidence, view)
        .filter_map(|word| match word.role {
            Role::Primary { written, .. } => Some(written),
            Role::Replica { received, replayed, .. } => received.max(replayed),
        })
        .max()
}

fn fresh_replies<'a>(evidence: &'a Evidence, view: &View) -> impl Iterator<Item = ProbeReply> + use<'a> {
    evidence.fresh_replies(view.now, view.policy.options().max_probe_age).map(|(_, word)| word)
}
