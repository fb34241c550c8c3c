//! Whether each server answers the monitoring user, and whether the answers fit together.

use std::collections::BTreeMap;

use pg_leader_proxy_core::{Member, MemberName, ProbeReply, Role, SystemId};

use super::findings::Findings;
use crate::config::Probe;
use crate::sources::probe::check_member;

/// Probes every member, then compares the answers.
pub(super) async fn check(
    probe: &Probe,
    members: &BTreeMap<MemberName, Member>,
    system_id: Option<SystemId>,
    findings: &mut Findings<'_>,
) -> anyhow::Result<()> {
    let mut replies = Vec::new();
    for (name, member) in members {
        let addr = member.addr.to_string();
        let subject =
            if name.as_str() == addr { format!("member {addr}") } else { format!("member {name} {addr}") };
        match check_member(probe, &member.addr).await {
            Ok(reply) => {
                describe(&subject, reply, system_id, findings)?;
                replies.push((name, reply));
            }
            Err(error) => findings.error(&subject, &format!("{:#}", anyhow::Error::from(error)))?,
        }
    }
    together(&replies, replies.len() == members.len(), findings)
}

fn describe(
    subject: &str,
    reply: ProbeReply,
    system_id: Option<SystemId>,
    findings: &mut Findings<'_>,
) -> anyhow::Result<()> {
    if let Some(expected) = system_id.filter(|expected| *expected != reply.system_id) {
        let found = reply.system_id;
        findings.error(
            subject,
            &format!(
                "belongs to another cluster: its system identifier is {found}, the cluster's {expected}"
            ),
        )?;
        return Ok(());
    }
    let timeline = reply.timeline().map_or_else(String::new, |timeline| format!(", timeline {timeline}"));
    match reply.role {
        Role::Primary { .. } => findings.ok(subject, &format!("primary{timeline}"))?,
        Role::Replica { streaming: true, .. } => findings.ok(subject, &format!("replica{timeline}"))?,
        Role::Replica { streaming: false, .. } => {
            findings.warning(subject, &format!("replica{timeline}, not streaming"))?;
        }
    }
    Ok(())
}

fn together(
    replies: &[(&MemberName, ProbeReply)],
    complete: bool,
    findings: &mut Findings<'_>,
) -> anyhow::Result<()> {
    let is_primary = |reply: &ProbeReply| matches!(reply.role, Role::Primary { .. });
    let primaries: Vec<&str> =
        replies.iter().filter(|(_, reply)| is_primary(reply)).map(|(name, _)| name.as_str()).collect();
    if primaries.len() > 1 {
        findings
            .error("members", &format!("two primaries: {} are out of recovery", primaries.join(" and ")))?;
    }
    if primaries.is_empty() && complete && !replies.is_empty() {
        findings.warning("members", "no primary: every member is in recovery")?;
    }
    if let Some(((first, one), (other, _))) = replies
        .first()
        .and_then(|first| {
            Some((first, replies.iter().find(|(_, reply)| reply.system_id != first.1.system_id)?))
        })
        .map(|(first, other)| (*first, *other))
    {
        let id = one.system_id;
        findings.error(
            "members",
            &format!("{first} (system identifier {id}) and {other} belong to different clusters"),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pg_leader_proxy_core::{Lsn, StartTime, Timeline};

    use super::*;

    fn found(replies: &[(&MemberName, ProbeReply)]) -> (String, bool) {
        let mut out = Vec::new();
        let mut findings = Findings::new(&mut out);
        together(replies, true, &mut findings).unwrap();
        let passed = findings.passed();
        (String::from_utf8(out).unwrap(), passed)
    }

    fn primary(id: u64) -> ProbeReply {
        let role = Role::Primary { timeline: Timeline(1), written: Lsn(0) };
        ProbeReply { system_id: SystemId(id), started: StartTime(0), role }
    }

    fn replica(id: u64) -> ProbeReply {
        let role = Role::Replica { timeline: None, received: None, replayed: None, streaming: true };
        ProbeReply { system_id: SystemId(id), started: StartTime(0), role }
    }

    #[test]
    fn one_primary_and_its_replica_are_ok() {
        let (a, b) = (MemberName::new("a"), MemberName::new("b"));
        assert_eq!(found(&[(&a, primary(1)), (&b, replica(1))]), (String::new(), true));
    }

    #[test]
    fn two_primaries_and_two_clusters_are_errors() {
        let (a, b) = (MemberName::new("a"), MemberName::new("b"));
        let (text, passed) = found(&[(&a, primary(1)), (&b, primary(2))]);
        assert!(!passed && text.contains("a and b are out of recovery"), "{text}");
        assert!(text.contains("different clusters"), "{text}");
    }

    #[test]
    fn no_primary_is_a_warning() {
        let a = MemberName::new("a");
        let (text, passed) = found(&[(&a, replica(1))]);
        assert!(passed && text.starts_with("warning"), "{text}");
    }
}
