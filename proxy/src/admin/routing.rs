//! The answer `/routing`, made from what control knows and what was counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use pg_leader_proxy_core::{
    Admission, Alarm, Dcs, Leader, MemberName, MemberView, Moment, OpenSessions, Policy, PolicyOptions,
    ProbeUrgency, ReadRoute, Sources, WriteRoute,
};

use super::answers::{
    AlarmAnswer, DcsAnswer, EvidenceAnswer, LeaderAnswer, LeaderKeyAnswer, LeaseAnswer, PolicyAnswer,
    PrimaryAnswer, ProbeUrgencyAnswer, ReadAnswer, ReadDecision, ReadServerAnswer, ReasonAnswer,
    RestrictionsAnswer, RoutingAnswer, SessionsAnswer, WriteAnswer, WriteDecision, ms,
};
use super::members;
use crate::control::View;
use crate::counters::{Counters, RejectionKind};
use crate::phase::Phase;
use crate::route::RouteKind;

/// What the process as a whole adds to what control knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process<'a> {
    pub(super) cluster: &'a str,
    pub(super) counters: &'a Counters,
    pub(super) phase: Phase,
    pub(super) started: Moment,
    /// The addresses that it listens on, each with its block of the configuration.
    pub(super) listening: &'a [(&'static str, SocketAddr)],
}

pub(super) fn routing(view: &View, process: Process<'_>) -> RoutingAnswer {
    let primaries = view.routing.two_primaries().iter();
    let mut listening: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
    for (block, addr) in process.listening {
        listening.entry((*block).to_owned()).or_default().push(*addr);
    }
    let sessions = RouteKind::ALL.map(|kind| (kind.code().to_owned(), sessions(process.counters, kind)));
    RoutingAnswer {
        cluster: process.cluster.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        phase: process.phase,
        uptime_ms: ms(view.now.since(process.started)),
        listening,
        write: write(view),
        read: read(&view.routing.read),
        two_primaries: primaries
            .map(|(member, timeline)| PrimaryAnswer { member: member.to_string(), timeline: timeline.0 })
            .collect(),
        alarms: view.routing.alarms.iter().map(alarm).collect(),
        probe_urgency: probe_urgency(&view.routing.probe_urgency),
        evidence: evidence(view),
        policy: policy(&view.policy),
        restrictions: RestrictionsAnswer {
            paused: view.restrictions.paused,
            drained: view.restrictions.drained.iter().map(ToString::to_string).collect(),
        },
        sessions: sessions.into_iter().collect(),
    }
}

/// The leader, or why there is none that takes new sessions.
pub(super) fn leader(view: &View) -> Result<LeaderAnswer, ReasonAnswer> {
    match &view.routing.write {
        WriteRoute::Forward(leader) => match leader.admission() {
            Admission::Open => Ok(leader_answer(leader)),
            Admission::Waits(reason) => Err(reason.into()),
        },
        WriteRoute::Hold(reason) => Err(reason.into()),
    }
}

/// Whether clients can be sent here, or what is missing.
pub(super) fn readiness(view: &View, phase: Phase) -> Result<(), &'static str> {
    match phase {
        Phase::Draining => return Err("draining: no new sessions are accepted"),
        Phase::Serving => {}
    }
    let evidence = &view.evidence;
    if view.policy.options().sources == Sources::DcsAndServers && evidence.dcs() == Dcs::Unseen {
        return Err("etcd has not answered yet");
    }
    let probed = |member: &MemberName| {
        let mut views = evidence.member(member).into_iter().flat_map(MemberView::views);
        views.any(|view| view.reply.is_some() || view.failure.is_some())
    };
    if evidence.members().keys().any(probed) { Ok(()) } else { Err("no server has been probed yet") }
}

fn write(view: &View) -> WriteAnswer {
    let valid_for_ms = view.valid_until.map(|until| ms(until.since(view.now)));
    match &view.routing.write {
        WriteRoute::Forward(leader) => WriteAnswer {
            decision: WriteDecision::Forward,
            leader: Some(leader_answer(leader)),
            reason: leader.admission().waits().map(Into::into),
            valid_for_ms,
        },
        WriteRoute::Hold(reason) => WriteAnswer {
            decision: WriteDecision::Hold,
            leader: None,
            reason: Some(reason.into()),
            valid_for_ms,
        },
    }
}

fn leader_answer(leader: &Leader) -> LeaderAnswer {
    LeaderAnswer {
        member: leader.member().to_string(),
        address: leader.addr().to_string(),
        socket: leader.socket().to_string(),
        timeline: leader.timeline().0,
        epoch: leader.epoch().number(),
        confirmed_by: leader.basis().into(),
    }
}

fn read(route: &ReadRoute) -> ReadAnswer {
    let servers = route.servers().iter().map(|server| ReadServerAnswer {
        member: server.member.to_string(),
        address: server.addr.to_string(),
        epoch: server.epoch.number(),
        new_sessions: server.admission == Admission::Open,
        reason: server.admission.waits().map(Into::into),
        ends_when_idle: server.open_sessions == OpenSessions::EndWhenIdle,
    });
    let decision = match route {
        ReadRoute::Serve(_) => ReadDecision::Serve,
        ReadRoute::Hold(_) => ReadDecision::Hold,
    };
    ReadAnswer { decision, servers: servers.collect(), reason: route.waits().map(Into::into) }
}

fn alarm(alarm: &Alarm) -> AlarmAnswer {
    AlarmAnswer {
        code: alarm.code().to_owned(),
        member: alarm.member().map(ToString::to_string),
        text: alarm.to_string(),
    }
}

const fn probe_urgency(urgency: &ProbeUrgency) -> ProbeUrgencyAnswer {
    match urgency {
        ProbeUrgency::Normal => ProbeUrgencyAnswer::Normal,
        ProbeUrgency::Elevated => ProbeUrgencyAnswer::Elevated,
        ProbeUrgency::Burst(_) => ProbeUrgencyAnswer::Burst,
    }
}

fn evidence(view: &View) -> EvidenceAnswer {
    let (evidence, now) = (&view.evidence, view.now);
    let config = evidence.config();
    let (dcs, silent_since) = match evidence.dcs() {
        Dcs::Unseen => (DcsAnswer::Unseen, None),
        Dcs::Live => (DcsAnswer::Live, None),
        Dcs::Silent(since) => (DcsAnswer::Silent, Some(since)),
    };
    EvidenceAnswer {
        dcs,
        dcs_silent_for_ms: silent_since.map(|since| ms(now.since(since))),
        leader_key: evidence.leader_key().map(|key| LeaderKeyAnswer {
            holder: key.fact.holder.to_string(),
            create_revision: key.fact.create_revision.0,
            age_ms: ms(now.since(key.sent)),
        }),
        last_leader: evidence.last_holder().map(ToString::to_string),
        leader_key_absent_for_ms: evidence.vacant_since().map(|since| ms(now.since(since))),
        lease: evidence.lease().map(|lease| LeaseAnswer {
            ttl_ms: ms(config.ttl),
            valid_for_ms: ms(lease.end().since(now)),
            age_ms: ms(now.since(lease.remaining.sent)),
        }),
        paused: config.paused,
        standby_cluster: config.standby_cluster,
        failsafe_mode: config.failsafe_mode,
        switchover_requested: evidence.switchover_announced(),
        system_identifier: evidence.initialize().map(|id| id.to_string()),
        members: members::members(view),
    }
}

fn policy(policy: &Policy) -> PolicyAnswer {
    let PolicyOptions {
        sources,
        lease_margin,
        max_probe_age,
        max_member_probe_age,
        max_suspension,
        probe_interval,
        on_dcs_loss,
        max_lag_bytes,
        read_fallback,
    } = *policy.options();
    PolicyAnswer {
        sources: sources.into(),
        on_dcs_loss: on_dcs_loss.into(),
        lease_margin_ms: ms(lease_margin),
        max_probe_age_ms: ms(max_probe_age),
        max_member_probe_age_ms: ms(max_member_probe_age),
        max_suspension_ms: ms(max_suspension),
        probe_interval_ms: ms(probe_interval),
        max_lag_bytes,
        read_fallback: read_fallback.into(),
    }
}

fn sessions(counters: &Counters, kind: RouteKind) -> SessionsAnswer {
    let route = counters.route(kind);
    let [bytes_to_server, bytes_to_client] = counters.bytes(kind);
    let rejected = RejectionKind::ALL.map(|kind| (kind.code().to_owned(), route.rejections(kind).value()));
    SessionsAnswer {
        open: route.open.value(),
        held: route.held.value(),
        accepted: route.accepted.value(),
        waited: route.waited.value(),
        connected: route.connected.value(),
        terminated: route.terminated(),
        connect_failures: route.connect_failures.value(),
        cancel_requests: route.cancels.value(),
        bytes_to_server,
        bytes_to_client,
        rejected: rejected.into_iter().collect(),
    }
}
