//! The printer of the scenario language. The parser reads back what it prints.

use std::fmt;
use std::time::Duration;

use pg_leader_proxy_core as core;
use pg_leader_proxy_core::{
    Admission, LeaderKey, Lsn, Member, MemberName, Moment, Observation, OnDcsLoss, Policy, ProbeConnection,
    ProbeUrgency, ReadFallback, Role, Sources, Stamped,
};

use super::{DEFAULT_CLUSTER, DEFAULT_LSN, Expectation, Input, Step, default_addr};

/// A whole history as a scenario file: a comment, then one line per step.
pub(crate) fn scenario_text(comment: &str, steps: &[Step]) -> String {
    let mut text: String = comment.lines().map(|line| format!("# {line}\n")).collect();
    for step in steps {
        text.push_str(&format!("{step}\n"));
    }
    text
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", time(self.at), self.input.text(self.at))
    }
}

impl Input {
    fn text(&self, at: Moment) -> String {
        match self {
            Self::Policy(policy) => format!("policy {}", policy_text(policy)),
            Self::Observe(observation) => observation_text(observation, at),
            Self::Tick => "tick".to_owned(),
        }
    }
}

fn policy_text(policy: &Policy) -> String {
    let options = policy.options();
    [
        match options.sources {
            Sources::DcsAndServers => "sources=dcs".to_owned(),
            Sources::ServersOnly => "sources=servers".to_owned(),
        },
        format!("margin={}", span(options.lease_margin)),
        format!("max_probe_age={}", span(options.max_probe_age)),
        format!("max_member_probe_age={}", span(options.max_member_probe_age)),
        format!("probe_interval={}", span(options.probe_interval)),
        match options.on_dcs_loss {
            OnDcsLoss::AllMembers => "on_dcs_loss=all_members".to_owned(),
            OnDcsLoss::Fence => "on_dcs_loss=fence".to_owned(),
        },
        match options.max_lag_bytes {
            None => "max_lag=any".to_owned(),
            Some(bytes) => format!("max_lag={bytes}"),
        },
        match options.read_fallback {
            ReadFallback::Hold => "read_fallback=hold".to_owned(),
            ReadFallback::Leader => "read_fallback=leader".to_owned(),
        },
    ]
    .join(" ")
}

fn observation_text(observation: &Observation, at: Moment) -> String {
    match observation {
        Observation::LeaderKey { key, lease, seen } => {
            format!(
                "key {}{}{}",
                key_text(key.as_ref()),
                lease_text(*lease, at),
                unless_at(" seen", *seen, at)
            )
        }
        Observation::Members(members) if members.is_empty() => "members none".to_owned(),
        Observation::Members(members) => {
            let words: Vec<String> = members.iter().map(|(name, member)| member_text(name, member)).collect();
            format!("members {}", words.join(" "))
        }
        Observation::Config(config) => {
            let words = [
                (config.paused, "paused"),
                (config.standby_cluster, "standby_cluster"),
                (config.failsafe_mode, "failsafe_mode"),
            ];
            let set: Vec<&str> = words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
            if set.is_empty() { "config usual".to_owned() } else { format!("config {}", set.join(" ")) }
        }
        Observation::Switchover { announced: true } => "switchover announced".to_owned(),
        Observation::Switchover { announced: false } => "switchover over".to_owned(),
        Observation::Initialize(Some(id)) => format!("initialize {id}"),
        Observation::Initialize(None) => "initialize none".to_owned(),
        Observation::DcsSilent { since } => format!("dcs silent{}", unless_at(" since", *since, at)),
        Observation::Probe { .. } => probe_text(observation, at),
    }
}

fn key_text(key: Option<&LeaderKey>) -> String {
    match key {
        Some(key) => format!("{} {}", key.holder, key.create_revision),
        None => "vacant".to_owned(),
    }
}

fn lease_text(lease: Option<Stamped<Duration>>, at: Moment) -> String {
    lease.map_or_else(String::new, |lease| {
        format!(" lease {}{}", span(lease.fact), unless_at(" asked", lease.sent, at))
    })
}

fn member_text(name: &MemberName, member: &Member) -> String {
    let mut text = name.to_string();
    if member.addr != default_addr(name) {
        text.push_str(&format!("@{}", member.addr));
    }
    if member.no_load_balance {
        text.push_str("(noloadbalance)");
    }
    text
}

fn probe_text(observation: &Observation, at: Moment) -> String {
    let Observation::Probe { member, addr, sent, connection, outcome } = observation else {
        return String::new();
    };
    let mut text = format!("probe {member} ");
    match outcome {
        Err(failure) => text.push_str(failure.code()),
        Ok(word) => {
            text.push_str(&role_text(word.role));
            if word.system_id != DEFAULT_CLUSTER {
                text.push_str(&format!(" id {}", word.system_id));
            }
        }
    }
    if *connection == ProbeConnection::New {
        text.push_str(" new_connection");
    }
    if *addr != default_addr(member) {
        text.push_str(&format!(" from {addr}"));
    }
    text.push_str(&unless_at(" sent", *sent, at));
    text
}

fn role_text(role: Role) -> String {
    match role {
        Role::Primary { timeline, written } => {
            format!("primary {timeline}{}", lsn_text(" written", Some(written)))
        }
        Role::Replica { timeline, received, replayed, streaming } => format!(
            "replica {}{}{}{}",
            timeline.map_or_else(|| "?".to_owned(), |timeline| timeline.to_string()),
            lsn_text(" received", received),
            lsn_text(" replayed", replayed),
            if streaming { "" } else { " stopped" },
        ),
    }
}

fn lsn_text(name: &str, lsn: Option<Lsn>) -> String {
    match lsn {
        Some(DEFAULT_LSN) => String::new(),
        Some(lsn) => format!("{name} {lsn}"),
        None => format!("{name} none"),
    }
}

fn unless_at(name: &str, moment: Moment, at: Moment) -> String {
    if moment == at { String::new() } else { format!("{name} {}", time(moment)) }
}

fn time(moment: Moment) -> String {
    span(moment.since_boot())
}

/// Exact seconds, without trailing zeros.
fn span(duration: Duration) -> String {
    let text = format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("=> ")?;
        match self {
            Self::Forward { member, epoch, timeline, all_members, holds_new } => {
                write!(f, "forward {member}, epoch {epoch}")?;
                if let Some(timeline) = timeline {
                    write!(f, ", timeline {timeline}")?;
                }
                f.write_str(if *all_members { ", all_members" } else { "" })?;
                f.write_str(if *holds_new { ", holds_new" } else { "" })
            }
            Self::Hold(code) => write!(f, "hold {code}"),
            Self::HoldText(text) => write!(f, "hold: {text}"),
            Self::Read(servers) if servers.is_empty() => f.write_str("read nowhere"),
            Self::Read(servers) => {
                f.write_str("read")?;
                servers.iter().try_for_each(|(member, admission)| match admission {
                    Admission::NewSessions => write!(f, " {member}"),
                    Admission::ExistingOnly => write!(f, " {member}(existing_only)"),
                })
            }
            Self::Unchanged => f.write_str("unchanged"),
            Self::Alarm(primaries) if primaries.is_empty() => f.write_str("no alarm"),
            Self::Alarm(primaries) => {
                f.write_str("alarm")?;
                primaries.iter().try_for_each(|(member, timeline)| write!(f, " {member}:{timeline}"))
            }
            Self::ProbeUrgency(ProbeUrgency::Normal) => f.write_str("urgency normal"),
            Self::ProbeUrgency(ProbeUrgency::Elevated) => f.write_str("urgency elevated"),
            Self::ProbeUrgency(ProbeUrgency::Burst(member)) => write!(f, "urgency burst {member}"),
            Self::ValidUntil(moment) => write!(f, "valid until {}", time(*moment)),
            Self::Report(steps) => {
                let words: Vec<String> =
                    steps.iter().map(|(at, step)| format!("{} {}", report_step(step), time(*at))).collect();
                write!(f, "report {}", words.join(", "))
            }
        }
    }
}

fn report_step(step: &core::FailoverStep) -> String {
    match step {
        core::FailoverStep::Announced => "announced".to_owned(),
        core::FailoverStep::KeyDeleted => "key deleted".to_owned(),
        core::FailoverStep::KeyPut(member) => format!("key put {member}"),
        core::FailoverStep::Terminated => "terminated".to_owned(),
        core::FailoverStep::LeftRecovery(member) => format!("left recovery {member}"),
        core::FailoverStep::Routed(member) => format!("routed {member}"),
    }
}
