//! What `status` and `failovers` print for people.

use std::io::{self, Write};

use pg_leader_proxy_core::display::{Counted, HumanBytes, HumanDuration};

use super::table::{Table, or_dash};
use crate::admin::answers::{
    AskedAs, FailoverAnswer, FailoversAnswer, MemberAnswer, RoutingAnswer, WriteAnswer,
};
use crate::admin::text;
use crate::phase::Phase;

/// All of a proxy.
pub(super) fn tell(
    out: &mut dyn Write,
    routing: &RoutingAnswer,
    failovers: &FailoversAnswer,
) -> io::Result<()> {
    let up = HumanDuration::from_millis(routing.uptime_ms);
    writeln!(out, "cluster {} (pg-leader-proxy {}, up {up})\n", routing.cluster, routing.version)?;
    writes(out, &routing.write)?;
    for alarm in &routing.alarms {
        writeln!(out, "  ALARM: {}", alarm.text)?;
    }
    reads(out, routing)?;
    writeln!(out, "{}", text::dcs(routing))?;
    if routing.phase == Phase::Draining {
        writeln!(out, "draining: this proxy accepts no new sessions")?;
    }
    writeln!(out, "\nmembers")?;
    members(routing).print(out, "  ")?;
    writeln!(out, "\nsessions")?;
    let mut sessions = Table::new(["route", "open", "held", "accepted", "terminated", "rejected"]);
    for (route, counted) in &routing.sessions {
        let counts =
            [counted.open, counted.held, counted.accepted, counted.terminated, counted.rejected_total()];
        let [open, held, accepted, terminated, rejected] = counts.map(|count| count.to_string());
        sessions.push([route.clone(), open, held, accepted, terminated, rejected]);
    }
    sessions.print(out, "  ")?;
    writeln!(out, "\nchanges of leader: {}", failovers.total)?;
    for failover in failovers.failovers.iter().rev().take(text::FAILOVERS_SHOWN) {
        tell_failover(out, failover)?;
    }
    Ok(())
}

fn writes(out: &mut dyn Write, write: &WriteAnswer) -> io::Result<()> {
    match &write.leader {
        Some(leader) => {
            writeln!(out, "writes go to {} at {}", leader.member, leader.address)?;
            write!(out, "  timeline {}, epoch {}", leader.timeline, leader.epoch)?;
            write!(out, ", confirmed by {}", text::confirmed_by(leader.confirmed_by))?;
            match write.valid_for_ms {
                Some(valid) => writeln!(out, "; valid for {}", HumanDuration::from_millis(valid))?,
                None => writeln!(out)?,
            }
        }
        None => writeln!(out, "writes wait")?,
    }
    match &write.reason {
        Some(reason) => writeln!(out, "  because {}", reason.text),
        None => Ok(()),
    }
}

fn reads(out: &mut dyn Write, routing: &RoutingAnswer) -> io::Result<()> {
    if let Some(reason) = &routing.read.reason {
        return writeln!(out, "reads wait\n  because {}", reason.text);
    }
    let admitting = routing.read.servers.iter().filter(|server| server.new_sessions);
    let names: Vec<&str> = admitting.map(|server| server.member.as_str()).collect();
    match names.is_empty() {
        false => writeln!(out, "reads go to {}", names.join(", ")),
        true => writeln!(out, "reads wait: no server takes new sessions"),
    }
}

fn members(routing: &RoutingAnswer) -> Table<7> {
    let mut table =
        Table::new(["member", "address", "state", "timeline", "lag", "last probe", "new readers"]);
    for member in &routing.evidence.members {
        let probe = member.last_probe.as_ref();
        let departed = if member.asked_as == AskedAs::Departed { ", no longer in the cluster" } else { "" };
        let probe_age = probe.map(|probe| probe.age_ms);
        let age = probe_age.or_else(|| member.probe_failure.as_ref().map(|failure| failure.age_ms));
        table.push([
            member.member.clone(),
            member.address.clone(),
            format!("{}{departed}", member.summary),
            match probe.map(|probe| probe.timeline) {
                Some(None) => "unknown".to_owned(),
                timeline => or_dash(timeline.flatten()),
            },
            or_dash(probe.and_then(|probe| probe.lag_bytes).map(HumanBytes)),
            or_dash(age.map(|age| format!("{} ago", HumanDuration::from_millis(age)))),
            new_readers(routing, member),
        ]);
    }
    table
}

/// Whether readers are sent to a member, or why not.
fn new_readers(routing: &RoutingAnswer, member: &MemberAnswer) -> String {
    match routing.read.servers.iter().find(|server| server.member == member.member) {
        Some(server) if server.new_sessions => "yes".to_owned(),
        Some(server) => {
            server.reason.as_ref().map_or_else(|| "no".to_owned(), |reason| format!("no: {}", reason.code))
        }
        None => "-".to_owned(),
    }
}

/// A table of the changes of leader.
pub(super) fn tell_failovers(out: &mut dyn Write, failovers: &FailoversAnswer) -> io::Result<()> {
    let mut table =
        Table::new(["no.", "ago", "from", "to", "write downtime", "terminated", "held", "because"]);
    for (number, failover) in failovers.numbered() {
        table.push([
            number.to_string(),
            HumanDuration::from_millis(failover.age_ms).to_string(),
            failover.from.member.clone(),
            failover.to.as_ref().map_or_else(|| "-".to_owned(), |to| to.member.clone()),
            or_dash(failover.write_downtime_ms.map(HumanDuration::from_millis)),
            failover.terminated_sessions.to_string(),
            failover.held_clients.to_string(),
            failover.cause.text.clone(),
        ]);
    }
    table.print(out, "")?;
    writeln!(out, "{} since this proxy started", changes(failovers.total))
}

fn changes(count: u64) -> String {
    if count == 1 { "1 change of leader".to_owned() } else { format!("{count} changes of leader") }
}

/// One change of leader, step by step.
pub(super) fn tell_failover(out: &mut dyn Write, failover: &FailoverAnswer) -> io::Result<()> {
    let ago = HumanDuration::from_millis(failover.age_ms);
    write!(out, "\n  {} -> {}, {ago} ago", failover.from.member, failover.next_leader())?;
    if let Some(downtime) = failover.write_downtime_ms {
        write!(out, ", write downtime {}", HumanDuration::from_millis(downtime))?;
    }
    let terminated = Counted(failover.terminated_sessions, "session");
    writeln!(out, ", {terminated} terminated, {} held", Counted(failover.held_clients, "client"))?;
    writeln!(out, "  because {}", failover.cause.text)?;
    for step in &failover.steps {
        writeln!(out, "  {:>+9} ms  {}", step.at_ms, step.text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::answers::{PrimaryAnswer, ReasonAnswer, StepAnswer, StepKind};

    #[test]
    fn a_change_of_leader_is_a_timeline() {
        let step = |at_ms, step, text: &str| StepAnswer {
            at_ms,
            age_ms: 0,
            step,
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
            write_downtime_ms: Some(2_350),
            terminated_sessions: 12,
            held_clients: 7,
            steps: vec![
                step(-4, StepKind::LastByte, "the last byte passed"),
                step(0, StepKind::ForwardingStopped, "forwarding stopped, the sessions were terminated"),
                step(2_346, StepKind::FirstClientServed, "the first client was served"),
            ],
        };
        let mut told = Vec::new();
        tell_failover(&mut told, &failover).unwrap();
        assert_eq!(
            String::from_utf8(told).unwrap(),
            "\n  a -> b, 1 min 1 s ago, write downtime 2.3 s, 12 sessions terminated, 7 clients held\n  \
             because no member holds the leader key\n         -4 ms  the last byte passed\n         +0 ms  \
             forwarding stopped, the sessions were terminated\n      +2346 ms  the first client was served\n"
        );
    }
}
