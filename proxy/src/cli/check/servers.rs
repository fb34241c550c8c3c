//! Whether each server answers the monitoring user, and whether together they make sense.

use std::collections::BTreeMap;

use pg_leader_proxy_core::{Member, MemberName, ProbeReply, Role, SystemId};

use super::findings::Findings;
use crate::config::Probe;
use crate::sources::probe::check_member;

/// Asks every member, then compares what they said.
pub(super) async fn check(
    probe: &Probe,
    members: &BTreeMap<MemberName, Member>,
    system_id: Option<SystemId>,
    findings: &mut Findings<'_>,
) -> anyhow::Result<()> {
    let mut words = Vec::new();
    for (name, member) in members {
        let addr = member.addr.to_string();
        let subject =
            if name.as_str() == addr { format!("member {addr}") } else { format!("member {name} {addr}") };
        match check_member(probe, &member.addr).await {
            Ok(word) => {
                describe(&subject, word, system_id, findings)?;
                words.push((name, word));
            }
            Err(error) => findings.wrong(&subject, &format!("{:#}", anyhow::Error::from(error)))?,
        }
    }
    together(&words, words.len() == members.len(), findings)
}

fn describe(
    subject: &str,
    word: ProbeReply,
    system_id: Option<SystemId>,
    findings: &mut Findings<'_>,
) -> anyhow::Result<()> {
    if let Some(expected) = system_id.filter(|expected| *expected != word.system_id) {
        let found = word.system_id;
        findings.wrong(
            subject,
            &format!(
                "belongs to another cluster: its system identifier is {found}, the cluster's {expected}"
            ),
        )?;
        return Ok(());
    }
    let timeline = word.timeline().map_or_else(String::new, |timeline| format!(", timeline {timeline}"));
    match word.role {
        Role::Primary { .. } => findings.fine(subject, &format!("primary{timeline}"))?,
        Role::Replica { streaming: true, .. } => findings.fine(subject, &format!("replica{timeline}"))?,
        Role::Replica { streaming: false, .. } => {
            findings.doubtful(subject, &format!("replica{timeline}, but it does not stream"))?;
        }
    }
    Ok(())
}

fn together(
    words: &[(&MemberName, ProbeReply)],
    complete: bool,
    findings: &mut Findings<'_>,
) -> anyhow::Result<()> {
    let is_primary = |word: &ProbeReply| matches!(word.role, Role::Primary { .. });
    let primaries: Vec<&str> =
        words.iter().filter(|(_, word)| is_primary(word)).map(|(name, _)| name.as_str()).collect();
    if primaries.len() > 1 {
        findings.wrong("members", &format!("{} are all out of recovery", primaries.join(" and ")))?;
    }
    if primaries.is_empty() && complete && !words.is_empty() {
        findings.doubtful("members", "all are in recovery: there is nobody to write to")?;
    }
    if let Some(((first, one), (other, _))) = words
        .first()
        .and_then(|first| Some((first, words.iter().find(|(_, word)| word.system_id != first.1.system_id)?)))
        .map(|(first, other)| (*first, *other))
    {
        let id = one.system_id;
        findings.wrong(
            "members",
            &format!("{first} (system identifier {id}) and {other} are of different clusters"),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pg_leader_proxy_core::{Lsn, Timeline};

    use super::*;

    fn found(words: &[(&MemberName, ProbeReply)]) -> (String, bool) {
        let mut out = Vec::new();
        let mut findings = Findings::new(&mut out);
        together(words, true, &mut findings).unwrap();
        let fine = findings.all_fine();
        (String::from_utf8(out).unwrap(), fine)
    }

    fn primary(id: u64) -> ProbeReply {
        let role = Role::Primary { timeline: Timeline(1), written: Lsn(0) };
        ProbeReply { system_id: SystemId(id), role }
    }

    fn replica(id: u64) -> ProbeReply {
        let role = Role::Replica { timeline: None, received: None, replayed: None, streaming: true };
        ProbeReply { system_id: SystemId(id), role }
    }

    #[test]
    fn one_primary_and_its_replica_are_fine() {
        let (a, b) = (MemberName::new("a"), MemberName::new("b"));
        assert_eq!(found(&[(&a, primary(1)), (&b, replica(1))]), (String::new(), true));
    }

    #[test]
    fn two_primaries_and_strangers_are_wrong() {
        let (a, b) = (MemberName::new("a"), MemberName::new("b"));
        let (text, fine) = found(&[(&a, primary(1)), (&b, primary(2))]);
        assert!(!fine && text.contains("a and b are all out of recovery"), "{text}");
        assert!(text.contains("different clusters"), "{text}");
    }

    #[test]
    fn nobody_to_write_to_is_a_warning() {
        let a = MemberName::new("a");
        let (text, fine) = found(&[(&a, replica(1))]);
        assert!(fine && text.starts_with("warning"), "{text}");
    }
}
