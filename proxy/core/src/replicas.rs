//! Replicas: which servers may be read from, and which of them take new sessions.

use crate::cluster::{Lsn, MemberName};
use crate::evidence::Evidence;
use crate::moment::Moment;
use crate::observation::Role;
use crate::policy::{Policy, ReadFallback};
use crate::routing::Admission;

/// A server fit for the read route, before it has an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) member: MemberName,
    pub(crate) admission: Admission,
}

/// The servers that sessions of the read route may be on at `now`; `leader` is the confirmed one.
///
/// A replica keeps its sessions while it answers and belongs to the cluster; it admits new ones only while it also
/// streams, is within the allowed lag and is not tagged `noloadbalance`. The leader keeps the sessions of the replica
/// it was, and admits new ones only as the fallback.
pub(crate) fn candidates(
    evidence: &Evidence,
    policy: &Policy,
    leader: Option<&MemberName>,
    now: Moment,
) -> Vec<Candidate> {
    let newest = newest_lsn(evidence, policy, now);
    let mut candidates: Vec<Candidate> = evidence
        .fresh_replies(now, policy.options().max_probe_age)
        .filter_map(|(member, reply)| match reply.role {
            Role::Primary { .. } => None,
            Role::Replica { replayed, streaming, .. } => {
                let tagged = evidence.members().get(member).is_none_or(|member| member.no_load_balance);
                let near = within(policy.options().max_lag_bytes, newest, replayed);
                let admits = streaming && near && !tagged && takes_connections(evidence, member);
                Some(Candidate { member: member.clone(), admission: admission(admits) })
            }
        })
        .collect();
    if let Some(leader) = leader {
        let needed = candidates.iter().all(|candidate| candidate.admission == Admission::ExistingOnly);
        let fallback = needed && policy.options().read_fallback == ReadFallback::Leader;
        let admits = fallback && takes_connections(evidence, leader);
        candidates.push(Candidate { member: leader.clone(), admission: admission(admits) });
    }
    candidates
}

fn takes_connections(evidence: &Evidence, member: &MemberName) -> bool {
    evidence.server(member).is_none_or(|known| known.connect_failure.is_none())
}

const fn admission(admits: bool) -> Admission {
    if admits { Admission::NewSessions } else { Admission::ExistingOnly }
}

/// The end of the log as far as anybody knows: what a primary wrote, or the most that a replica received.
fn newest_lsn(evidence: &Evidence, policy: &Policy, now: Moment) -> Option<Lsn> {
    evidence
        .fresh_replies(now, policy.options().max_probe_age)
        .filter_map(|(_, reply)| match reply.role {
            Role::Primary { written, .. } => Some(written),
            Role::Replica { received, replayed, .. } => received.max(replayed),
        })
        .max()
}

/// Whether `replayed` is at most `max_lag` bytes behind `newest`. A replica that cannot tell has not earned a limit.
fn within(max_lag: Option<u64>, newest: Option<Lsn>, replayed: Option<Lsn>) -> bool {
    match (max_lag, newest, replayed) {
        (None, _, _) => true,
        (Some(max_lag), Some(Lsn(newest)), Some(Lsn(replayed))) => newest.saturating_sub(replayed) <= max_lag,
        (Some(_), _, _) => false,
    }
}
