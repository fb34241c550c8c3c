//! Replicas: which servers sessions of the read route may use, and which of them take new sessions.

use crate::cluster::{Lsn, MemberName};
use crate::evidence::Evidence;
use crate::moment::Moment;
use crate::observation::Role;
use crate::policy::{Policy, ReadFallback};
use crate::routing::Admission;

/// A server of the read route, before it has an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) member: MemberName,
    pub(crate) admission: Admission,
}

/// The servers of the read route at `now`; `leader` is the confirmed leader.
///
/// A replica keeps its sessions while it replies and belongs to the cluster. It takes new ones only if it also streams,
/// is within the allowed lag and is not tagged `noloadbalance`. The leader keeps the sessions from when it was a replica,
/// and takes new ones only as the fallback.
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

/// The highest known end of the log: what a primary has written, or what a replica has received.
fn newest_lsn(evidence: &Evidence, policy: &Policy, now: Moment) -> Option<Lsn> {
    evidence
        .fresh_replies(now, policy.options().max_probe_age)
        .filter_map(|(_, reply)| match reply.role {
            Role::Primary { written, .. } => Some(written),
            Role::Replica { received, replayed, .. } => received.max(replayed),
        })
        .max()
}

/// Whether `replayed` is at most `max_lag` bytes behind `newest`. With a limit, an unknown position is too far behind.
fn within(max_lag: Option<u64>, newest: Option<Lsn>, replayed: Option<Lsn>) -> bool {
    match (max_lag, newest, replayed) {
        (None, _, _) => true,
        (Some(max_lag), Some(Lsn(newest)), Some(Lsn(replayed))) => newest.saturating_sub(replayed) <= max_lag,
        (Some(_), _, _) => false,
    }
}
