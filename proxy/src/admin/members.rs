//! What is known of each member, and in words whether that is as it should be.

use pg_leader_proxy_core::{
    Leader, Lsn, MemberName, MemberView, Moment, ProbeFailure, ProbeReply, Role, SocketView, Stamped,
};

use super::answers::{AskedAs, FailureAnswer, MemberAnswer, ProbeAnswer, RoleAnswer, ms};
use crate::control::View;

/// Every member that is probed, in the order of their names.
pub(super) fn members(view: &View) -> Vec<MemberAnswer> {
    let newest = newest_lsn(view);
    view.evidence.members().iter().map(|(name, member)| answer(view, name, member, newest)).collect()
}

fn answer(view: &View, name: &MemberName, member: &MemberView, newest: Option<Lsn>) -> MemberAnswer {
    let leader = view.routing.write.leader().filter(|leader| leader.member() == name);
    let server = in_use(member, leader);
    let summary = summary(view, name, server, leader.is_some());
    let former = member.former.as_ref().and_then(|former| former.socket);
    MemberAnswer {
        member: name.to_string(),
        address: member.record.addr.to_string(),
        socket: member.published.socket.map(|socket| socket.to_string()),
        former_socket: former.map(|socket| socket.to_string()),
        asked_as: if member.departed.is_some() { AskedAs::Departed } else { AskedAs::Listed },
        leader: leader.is_some(),
        healthy: summary.healthy,
        summary: summary.text,
        no_load_balance: member.record.no_load_balance,
        last_probe: server.reply.map(|reply| probe(reply, newest, view.now)),
        probe_failure: server.failure.map(|of| failure(of, view.now)),
        connect_failure: server.connect_failure.map(|of| failure(of, view.now)),
    }
}

/// The view of the socket that the leader's sessions use, else of the published address.
fn in_use<'a>(member: &'a MemberView, leader: Option<&Leader>) -> &'a SocketView {
    let former = member.former.as_ref();
    let used = former.filter(|former| leader.is_some_and(|leader| former.socket == Some(leader.socket())));
    used.unwrap_or(&member.published)
}

/// A member in a few words.
struct Summary {
    healthy: bool,
    text: String,
}

impl Summary {
    fn good(text: &str) -> Self {
        Self { healthy: true, text: text.to_owned() }
    }

    fn bad(text: impl Into<String>) -> Self {
        Self { healthy: false, text: text.into() }
    }
}

/// What a person wants to read. A replica that does its work is healthy: it is not "down" because no writes go there.
fn summary(view: &View, name: &MemberName, server: &SocketView, leader: bool) -> Summary {
    let limit = view.policy.options().max_probe_age;
    let Some(reply) = server.fresh_reply(view.now, limit) else {
        return match server.failure {
            Some(failure) => Summary::bad(failure.fact.to_string()),
            None if server.reply.is_some() => Summary::bad("does not answer any more"),
            None => Summary::bad("not probed yet"),
        };
    };
    if view.evidence.initialize().is_some_and(|id| id != reply.fact.system_id) {
        return Summary::bad("belongs to another cluster");
    }
    let holder = view.evidence.leader_key().is_some_and(|key| key.fact.holder == *name);
    match reply.fact.role {
        _ if server.keeps_users_out().is_some() => Summary::bad("takes no new connections"),
        Role::Primary { .. } if leader => Summary::good("leader, healthy"),
        Role::Primary { .. } if holder => Summary::bad("holds the leader key, not confirmed"),
        Role::Primary { .. } => Summary::bad("out of recovery, but not the leader"),
        Role::Replica { .. } if holder && view.evidence.config().standby_cluster => {
            Summary::good("standby leader, healthy")
        }
        Role::Replica { .. } if holder => Summary::bad("holds the leader key, still in recovery"),
        Role::Replica { streaming: false, .. } => Summary::bad("replica, not streaming"),
        Role::Replica { streaming: true, .. } => Summary::good("replica, healthy"),
    }
}

fn probe(reply: Stamped<ProbeReply>, newest: Option<Lsn>, now: Moment) -> ProbeAnswer {
    let text = |lsn: Lsn| lsn.to_string();
    let base = ProbeAnswer {
        role: RoleAnswer::Primary,
        system_identifier: reply.fact.system_id.to_string(),
        timeline: reply.fact.timeline().map(|timeline| timeline.0),
        written_lsn: None,
        received_lsn: None,
        replayed_lsn: None,
        streaming: None,
        lag_bytes: None,
        age_ms: ms(now.since(reply.sent)),
    };
    match reply.fact.role {
        Role::Primary { written, .. } => ProbeAnswer { written_lsn: Some(text(written)), ..base },
        Role::Replica { received, replayed, streaming, .. } => ProbeAnswer {
            role: RoleAnswer::Replica,
            received_lsn: received.map(text),
            replayed_lsn: replayed.map(text),
            streaming: Some(streaming),
            lag_bytes: newest.zip(replayed).map(|(newest, replayed)| newest.0.saturating_sub(replayed.0)),
            ..base
        },
    }
}

fn failure(failure: Stamped<ProbeFailure>, now: Moment) -> FailureAnswer {
    FailureAnswer {
        code: failure.fact.code().to_owned(),
        text: failure.fact.to_string(),
        age_ms: ms(now.since(failure.sent)),
    }
}

/// The end of the log as far as any fresh answer tells.
fn newest_lsn(view: &View) -> Option<Lsn> {
    view.evidence
        .fresh_replies(view.now, view.policy.options().max_probe_age)
        .filter_map(|(_, _, reply)| match reply.role {
            Role::Primary { written, .. } => Some(written),
            Role::Replica { received, replayed, .. } => received.max(replayed),
        })
        .max()
}
