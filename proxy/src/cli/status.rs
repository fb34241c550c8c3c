//! `status`: what a running proxy does, and why, in lines for people.

use std::io::{self, Write};

use anyhow::Context as _;
use pg_leader_proxy_core::display::{Counted, HumanBytes, HumanDuration};
use serde::Deserialize as _;

use super::exit::Exit;
use super::http::AdminAddress;
use super::is_broken_pipe;
use crate::admin::answers::{
    AskedAs, FailoverAnswer, FailoversAnswer, MemberAnswer, RoutingAnswer, WriteAnswer,
};
use crate::admin::text;
use crate::config::{ConfigError, Origins, Settings};
use crate::phase::Phase;

/// What `status` was asked.
pub(super) struct Request<'a> {
    /// The admin address, if it was given by itself.
    pub(super) admin: Option<&'a String>,
    /// Where else the address may come from.
    pub(super) origins: Origins,
    /// Whether to print JSON.
    pub(super) json: bool,
}

/// Asks the proxy and prints what it answers.
pub(super) fn status(
    request: &Request<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let address = match address(request) {
        Ok(address) => address,
        Err(errors) => {
            errors.iter().try_for_each(|error| writeln!(err, "{error}"))?;
            return Ok(Exit::Configuration);
        }
    };
    match ask(&address) {
        Ok(answer) => {
            let exit = if answer.waits() { Exit::Waiting } else { Exit::Success };
            match print(&answer, request.json, out) {
                Ok(()) => Ok(exit),
                Err(error) if is_broken_pipe(&error) => Ok(exit),
                Err(error) => {
                    writeln!(err, "pg-leader-proxy: {error:#}")?;
                    Ok(Exit::Unprinted)
                }
            }
        }
        Err(error) => {
            writeln!(err, "pg-leader-proxy: {error:#}")?;
            Ok(Exit::Unreachable)
        }
    }
}

/// The admin address: as given by itself, or else that of the configuration.
fn address(request: &Request<'_>) -> Result<String, Vec<ConfigError>> {
    if let Some(admin) = request.admin {
        return Ok(admin.clone());
    }
    let mut errors = Vec::new();
    let settings = Settings::gather(&request.origins, &mut errors);
    match settings.find("admin.listen") {
        Some(listen) if errors.is_empty() => Ok(listen.raw.to_string()),
        _ => Err(errors),
    }
}

/// What the proxy answered.
struct Answer {
    routing: serde_json::Value,
    failovers: serde_json::Value,
}

impl Answer {
    /// Whether new sessions of the write route wait.
    fn waits(&self) -> bool {
        !self.routing["write"]["reason"].is_null()
    }
}

fn ask(address: &str) -> anyhow::Result<Answer> {
    let admin = AdminAddress::parse(address)?;
    let (routing, failovers) = (admin.get("/routing")?, admin.get("/failovers")?);
    Ok(Answer { routing: serde_json::from_str(&routing)?, failovers: serde_json::from_str(&failovers)? })
}

fn print(answer: &Answer, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let Answer { routing, failovers } = answer;
    if json {
        writeln!(out, "{:#}", serde_json::json!({ "routing": routing, "failovers": failovers }))?;
        return Ok(());
    }
    let other_version = "the proxy is of another version, whose answer this one cannot read; try --json";
    let (routing, failovers) = (RoutingAnswer::deserialize(routing), FailoversAnswer::deserialize(failovers));
    tell(out, &routing.context(other_version)?, &failovers.context(other_version)?)?;
    Ok(())
}

fn tell(out: &mut dyn Write, routing: &RoutingAnswer, failovers: &FailoversAnswer) -> io::Result<()> {
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
    for member in &routing.evidence.members {
        tell_member(out, member)?;
    }
    writeln!(out, "\nsessions")?;
    for (route, counted) in &routing.sessions {
        writeln!(
            out,
            "  {route:<8} {} open, {} held, {} accepted, {} terminated, {} rejected",
            counted.open,
            counted.held,
            counted.accepted,
            counted.terminated,
            counted.rejected_total()
        )?;
    }
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

fn tell_member(out: &mut dyn Write, member: &MemberAnswer) -> io::Result<()> {
    write!(out, "  {:<16} {:<22} {}", member.member, member.address, member.summary)?;
    if member.asked_as == AskedAs::Departed {
        write!(out, ", no longer in the cluster")?;
    }
    if let Some(probe) = &member.last_probe {
        match probe.timeline {
            Some(timeline) => write!(out, ", timeline {timeline}")?,
            None => write!(out, ", timeline unknown")?,
        }
        if let Some(lag) = probe.lag_bytes {
            write!(out, ", lag {}", HumanBytes(lag))?;
        }
        write!(out, ", last probe {} ago", HumanDuration::from_millis(probe.age_ms))?;
    } else if let Some(failure) = &member.probe_failure {
        write!(out, ", last probe {} ago", HumanDuration::from_millis(failure.age_ms))?;
    }
    writeln!(out)
}

fn tell_failover(out: &mut dyn Write, failover: &FailoverAnswer) -> io::Result<()> {
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
