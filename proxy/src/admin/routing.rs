//! The answer `/routing`, made from what control knows and what was counted.

use std::collections::BTreeMap;
use std::time::Duration;

use pg_leader_proxy_core::{
    Admission, Basis, Dcs, Leader, MemberName, Moment, OnDcsLoss, Policy, PolicyOptions, ProbeUrgency,
    ReadFallback, ReadRoute, Reason, Sources, WriteRoute,
};

use super::answers::{
    EvidenceAnswer, LeaderAnswer, LeaderKeyAnswer, LeaseAnswer, PolicyAnswer, PrimaryAnswer, ReadAnswer,
    ReadServerAnswer, ReasonAnswer, RoutingAnswer, SessionsAnswer, WriteAnswer,
};
use super::members;
use crate::app::Phase;
use crate::control::View;
use crate::counters::{Counters, RejectionKind};
use crate::route::RouteKind;

/// What the process as a whole adds to what control knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process<'a> {
    pub(super) counters: &'a Counters,
    pub(super) phase: Phase,
    pub(super) started: Moment,
}

pub(super) fn routing(view: &View, process: Process<'_>) -> RoutingAnswer {
    RoutingAnswer {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        phase: phase(process.phase).to_owned(),
        uptime_ms: ms(view.now.since(process.started)),
        write: write(view),
        read: read(&view.routing.read),
        two_primaries: view
            .routing
            .two_primaries
            .iter()
            .map(|(member, timeline)| PrimaryAnswer { member: member.to_string(), timeline: timeline.0 })
            .collect(),
        attention: attention(&view.routing.probe_urgency).to_owned(),
        evidence: evidence(view),
        policy: policy(&view.policy),
        sessions: RouteKind::ALL
            .map(|kind| (kind.code().to_owned(), sessions(process.counters, kind)))
            .into_iter()
            .collect(),
    }
}

/// The leader, or why there is none that takes new sessions.
pub(super) fn leader(view: &View) -> Result<LeaderAnswer, ReasonAnswer> {
    match &view.routing.write {
        WriteRoute::Forward(leader) => match leader.hold_reason() {
            None => Ok(leader_answer(leader)),
            Some(why) => Err(reason(why)),
        },
        WriteRoute::Hold(why) => Err(reason(why)),
    }
}

/// Whether clients can be sent here, or what is missing.
pub(super) fn readiness(view: &View, phase: Phase) -> Result<(), &'static str> {
    match phase {
        Phase::Draining => return Err("draining: no new sessions are taken"),
        Phase::Serving => {}
    }
    let evidence = &view.evidence;
    if view.policy.options().sources == Sources::DcsAndServers && evidence.dcs() == Dcs::Unseen {
        return Err("etcd has not answered yet");
    }
    let heard = |member: &MemberName| {
        evidence.server(member).is_some_and(|known| known.reply.is_some() || known.failure.is_some())
    };
    if evidence.members().keys().any(heard) { Ok(()) } else { Err("no server has been asked yet") }
}

const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Serving => "serving",
        Phase::Draining => "draining",
    }
}

pub(super) fn reason(reason: &Reason) -> ReasonAnswer {
    ReasonAnswer { code: reason.code().to_owned(), text: reason.to_string() }
}

/// Whole milliseconds.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn write(view: &View) -> WriteAnswer {
    let trusted_for_ms = view.valid_until.map(|until| ms(until.since(view.now)));
    match &view.routing.write {
        WriteRoute::Forward(leader) => WriteAnswer {
            decision: "forward".to_owned(),
            leader: Some(leader_answer(leader)),
            reason: leader.hold_reason().map(reason),
            trusted_for_ms,
        },
        WriteRoute::Hold(why) => WriteAnswer {
            decision: "hold".to_owned(),
            leader: None,
            reason: Some(reason(why)),
            trusted_for_ms,
        },
    }
}

fn leader_answer(leader: &Leader) -> LeaderAnswer {
    LeaderAnswer {
        member: leader.member().to_string(),
        address: leader.addr().to_string(),
        timeline: leader.timeline().0,
        epoch: leader.epoch().number(),
        basis: match leader.basis() {
            Basis::Lease => "lease",
            Basis::AllMembers => "all_members",
        }
        .to_owned(),
    }
}

fn read(route: &ReadRoute) -> ReadAnswer {
    let servers = route.servers().iter().map(|server| ReadServerAnswer {
        member: server.member.to_string(),
        address: server.addr.to_string(),
        epoch: server.epoch.number(),
        admits: server.admission == Admission::NewSessions,
    });
    let why = match route {
        ReadRoute::Serve(_) => None,
        ReadRoute::Hold(why) => Some(reason(why)),
    };
    ReadAnswer {
        decision: if why.is_none() { "serve" } else { "hold" }.to_owned(),
        servers: servers.collect(),
        reason: why,
    }
}

const fn attention(attention: &ProbeUrgency) -> &'static str {
    match attention {
        ProbeUrgency::Normal => "steady",
        ProbeUrgency::Elevated => "watchful",
        ProbeUrgency::Burst(_) => "burst",
    }
}

fn evidence(view: &View) -> EvidenceAnswer {
    let (evidence, now) = (&view.evidence, view.now);
    let config = evidence.config();
    let (dcs, silent_since) = match evidence.dcs() {
        Dcs::Unseen => ("unseen", None),
        Dcs::Live => ("live", None),
        Dcs::Silent(since) => ("silent", Some(since)),
    };
    EvidenceAnswer {
        dcs: dcs.to_owned(),
        dcs_silent_for_ms: silent_since.map(|since| ms(now.since(since))),
        leader_key: evidence.leader_key().map(|key| LeaderKeyAnswer {
            holder: key.fact.holder.to_string(),
            create_revision: key.fact.create_revision.0,
            age_ms: ms(now.since(key.sent)),
        }),
        last_holder: evidence.last_holder().map(ToString::to_string),
        vacant_for_ms: evidence.vacant_since().map(|since| ms(now.since(since))),
        lease: evidence.lease().map(|lease| LeaseAnswer {
            remaining_ms: ms(lease.end().since(now)),
            age_ms: ms(now.since(lease.remaining.sent)),
        }),
        paused: config.paused,
        standby_cluster: config.standby_cluster,
        failsafe_mode: config.failsafe_mode,
        switchover_announced: evidence.switchover_announced(),
        initialize: evidence.initialize().map(|id| id.to_string()),
        members: members::members(view),
    }
}

fn policy(policy: &Policy) -> PolicyAnswer {
    let PolicyOptions { sources, lease_margin, max_probe_age, max_member_probe_age, probe_interval, .. } =
        *policy.options();
    PolicyAnswer {
        witnesses: match sources {
            Sources::DcsAndServers => "etcd and servers",
            Sources::ServersOnly => "servers",
        }
        .to_owned(),
        on_dcs_loss: match policy.options().on_dcs_loss {
            OnDcsLoss::AllMembers => "all_members",
            OnDcsLoss::Fence => "fence",
        }
        .to_owned(),
        lease_margin_ms: ms(lease_margin),
        max_probe_age_ms: ms(max_probe_age),
        max_member_probe_age_ms: ms(max_member_probe_age),
        probe_interval_ms: ms(probe_interval),
        max_lag_bytes: policy.options().max_lag_bytes,
        read_fallback: match policy.options().read_fallback {
            ReadFallback::Hold => "hold",
            ReadFallback::Leader => "leader",
        }
        .to_owned(),
    }
}

fn sessions(counters: &Counters, kind: RouteKind) -> SessionsAnswer {
    let route = counters.route(kind);
    let refusals: BTreeMap<String, u64> = RejectionKind::ALL
        .into_iter()
        .map(|kind| (kind.code().to_owned(), route.rejections(kind).value()))
        .collect();
    SessionsAnswer {
        open: route.open.value(),
        held: route.held.value(),
        accepted: route.accepted.value(),
        waited: route.waited.value(),
        connected: route.connected.value(),
        severed: route.terminated.value(),
        connect_failures: route.connect_failures.value(),
        cancels: route.cancels.value(),
        bytes_to_server: route.bytes_to_server.value(),
        bytes_to_client: route.bytes_to_client.value(),
        refusals,
    }
}
