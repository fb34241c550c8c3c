//! `status`: what a running proxy does, and why, in lines for people.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::Context as _;

use super::Exit;
use super::http::AdminAddress;
use crate::admin::answers::{FailoverAnswer, FailoversAnswer, MemberAnswer, RoutingAnswer};
use crate::admin::words::{Age, Bytes, Of};
use crate::config::Key;

/// How many changes of leader are told.
const TOLD: usize = 5;

/// Asks the proxy at `admin` and prints what it answers.
pub(super) fn status(
    admin: Option<&String>,
    json: bool,
    environment: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let listen = Key::find("admin.listen");
    let address = admin.cloned().or_else(|| {
        let given = listen.and_then(|key| environment.get(&key.variable())).filter(|text| !text.is_empty());
        given.cloned().or_else(|| listen.and_then(|key| key.default).map(str::to_owned))
    });
    let address = AdminAddress::parse(&address.unwrap_or_default())?;
    let (routing, failovers) = (address.get("/routing")?, address.get("/failovers")?);
    if json {
        let both = serde_json::json!({
            "routing": serde_json::from_str::<serde_json::Value>(&routing)?,
            "failovers": serde_json::from_str::<serde_json::Value>(&failovers)?,
        });
        writeln!(out, "{both:#}")?;
        return Ok(Exit::Fine);
    }
    let strange = "the answer is not that of this version; try --json";
    tell(
        out,
        &serde_json::from_str(&routing).context(strange)?,
        &serde_json::from_str(&failovers).context(strange)?,
    )?;
    Ok(Exit::Fine)
}

fn tell(out: &mut dyn Write, routing: &RoutingAnswer, failovers: &FailoversAnswer) -> io::Result<()> {
    decision(out, routing)?;
    writeln!(out, "\nmembers")?;
    for member in &routing.evidence.members {
        tell_member(out, member)?;
    }
    writeln!(out, "\nsessions")?;
    for (route, counted) in &routing.sessions {
        let refused: u64 = counted.refusals.values().sum();
        writeln!(
            out,
            "  {route:<8} {} open, {} waiting, {} accepted, {} severed, {refused} turned away",
            counted.open, counted.held, counted.accepted, counted.severed
        )?;
    }
    writeln!(out, "\nchanges of leader: {}", failovers.total)?;
    for failover in failovers.failovers.iter().rev().take(TOLD) {
        tell_failover(out, failover)?;
    }
    Ok(())
}

fn decision(out: &mut dyn Write, routing: &RoutingAnswer) -> io::Result<()> {
    let write = &routing.write;
    match &write.leader {
        Some(leader) => writeln!(
            out,
            "writes go to {} at {} (timeline {}, epoch {}, confirmed by {}, trusted for {})",
            leader.member,
            leader.address,
            leader.timeline,
            leader.epoch,
            leader.basis,
            Age(write.trusted_for_ms.unwrap_or_default())
        )?,
        None => writeln!(out, "writes wait")?,
    }
    if let Some(reason) = &write.reason {
        writeln!(out, "  because {}", reason.text)?;
    }
    for primary in &routing.two_primaries {
        writeln!(out, "  ALARM: {} is out of recovery, on timeline {}", primary.member, primary.timeline)?;
    }
    match &routing.read.reason {
        None => {
            let admitting = routing.read.servers.iter().filter(|server| server.admits);
            let names: Vec<&str> = admitting.map(|server| server.member.as_str()).collect();
            writeln!(
                out,
                "reads go to {}",
                if names.is_empty() { "nobody new".into() } else { names.join(", ") }
            )?;
        }
        Some(reason) => writeln!(out, "reads wait\n  because {}", reason.text)?,
    }
    let evidence = &routing.evidence;
    if let Some(key) = &evidence.leader_key {
        writeln!(out, "leader key: {} for {}", key.holder, Age(key.age_ms))?;
    }
    if let Some(lease) = &evidence.lease {
        writeln!(out, "lease: {} more, confirmed {} ago", Age(lease.remaining_ms), Age(lease.age_ms))?;
    }
    if let Some(silent) = evidence.dcs_silent_for_ms {
        writeln!(out, "etcd: silent for {}", Age(silent))?;
    }
    for (is, what) in [
        (evidence.paused, "maintenance mode (pause)"),
        (evidence.standby_cluster, "standby cluster"),
        (evidence.switchover_announced, "a switchover was asked for"),
        (routing.phase == "draining", "this proxy drains: it takes no new sessions"),
    ] {
        if is {
            writeln!(out, "{what}")?;
        }
    }
    writeln!(out, "pg-leader-proxy {}, up {}", routing.version, Age(routing.uptime_ms))
}

fn tell_member(out: &mut dyn Write, member: &MemberAnswer) -> io::Result<()> {
    write!(out, "  {:<16} {:<22} {}", member.member, member.address, member.summary)?;
    if let Some(word) = &member.word {
        if let Some(timeline) = word.timeline {
            write!(out, ", timeline {timeline}")?;
        }
        if let Some(lag) = word.lag_bytes {
            write!(out, ", {} behind", Bytes(lag))?;
        }
        write!(out, ", asked {} ago", Age(word.age_ms))?;
    } else if let Some(failure) = &member.failure {
        write!(out, ", asked {} ago", Age(failure.age_ms))?;
    }
    writeln!(out)
}

fn tell_failover(out: &mut dyn Write, failover: &FailoverAnswer) -> io::Result<()> {
    let to = failover.to.as_ref().map_or("nobody yet", |to| to.member.as_str());
    write!(out, "\n  {} -> {to}, {} ago", failover.from.member, Age(failover.age_ms))?;
    if let Some(gap) = failover.gap_ms {
        write!(out, ", no service for {}", Age(gap))?;
    }
    writeln!(out, ", {} severed, {} waited", Of(failover.severed, "session"), Of(failover.waited, "client"))?;
    writeln!(out, "  because {}", failover.cause.text)?;
    for step in &failover.steps {
        writeln!(out, "  {:>+9} ms  {}", step.at_ms, step.text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::answers::{PrimaryAnswer, ReasonAnswer, StepAnswer};

    #[test]
    fn a_failover_is_told_as_a_timeline() {
        let step = |at_ms, step: &str, text: &str| StepAnswer {
            at_ms,
            age_ms: 0,
            step: step.to_owned(),
            member: None,
            text: text.to_owned(),
        };
        let failover = FailoverAnswer {
            from: PrimaryAnswer { member: "a".into(), timeline: 1 },
            from_epoch: 1,
            to: Some(PrimaryAnswer { member: "b".into(), timeline: 2 }),
            to_epoch: Some(2),
            cause: ReasonAnswer { code: "no_leader".into(), text: "no member holds the leader key".into() },
            age_ms: 61_000,
            gap_ms: Some(2_350),
            severed: 12,
            waited: 7,
            steps: vec![
                step(-4, "last_passed", "the last byte was passed"),
                step(0, "severed", "forwarding stopped, the sessions were severed"),
                step(2_346, "first_served", "the first client was served"),
            ],
        };
        let mut told = Vec::new();
        tell_failover(&mut told, &failover).unwrap();
        assert_eq!(
            String::from_utf8(told).unwrap(),
            "\n  a -> b, 1 min 1 s ago, no service for 2.3 s, 12 sessions severed, 7 clients waited\n  \
             because no member holds the leader key\n         -4 ms  the last byte was passed\n         +0 ms  \
             forwarding stopped, the sessions were severed\n      +2346 ms  the first client was served\n"
        );
    }
}
