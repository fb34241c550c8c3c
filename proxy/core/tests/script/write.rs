//! Steps to text: the printer of the scenario language. What it prints, the parser reads back as the same.

use std::fmt;
use std::time::Duration;

use pg_leader_proxy_core as core;
use pg_leader_proxy_core::{
    Attention, LeaderKey, Lsn, Member, MemberName, Moment, Observation, OnDcsLoss, Policy, ProbePath,
    ReadFallback, Stamped, Stance, Standing, Witness,
};

use super::{Event, Expectation, Step, USUAL_CLUSTER, USUAL_LSN, usual_addr};

/// A whole history as a file: a comment on top, then one line per step.
pub(crate) fn story(comment: &str, steps: &[Step]) -> String {
    let mut text: String = comment.lines().map(|line| format!("# {line}\n")).collect();
    for step in steps {
        text.push_str(&format!("{step}\n"));
    }
    text
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", time(self.at), self.event.text(self.at))
    }
}

impl Event {
    fn text(&self, at: Moment) -> String {
        match self {
            Self::Policy(policy) => format!("policy {}", policy_text(policy)),
            Self::Observe(observation) => observation_text(observation, at),
            Self::Tick => "tick".to_owned(),
        }
    }
}

fn policy_text(policy: &Policy) -> String {
    let terms = policy.terms();
    [
        match terms.witness {
            Witness::DcsAndServers => "witness=dcs".to_owned(),
            Witness::Servers => "witness=servers".to_owned(),
        },
        format!("margin={}", span(terms.lease_margin)),
        format!("evidence_limit={}", span(terms.evidence_limit)),
        format!("rival_limit={}", span(terms.rival_limit)),
        format!("probe_interval={}", span(terms.probe_interval)),
        match terms.on_dcs_loss {
            OnDcsLoss::Evidence => "on_dcs_loss=evidence".to_owned(),
            OnDcsLoss::Fence => "on_dcs_loss=fence".to_owned(),
        },
        match terms.max_lag_bytes {
            None => "max_lag=any".to_owned(),
            Some(bytes) => format!("max_lag={bytes}"),
        },
        match terms.read_fallback {
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
    if member.addr != usual_addr(name) {
        text.push_str(&format!("@{}", member.addr));
    }
    if member.no_load_balance {
        text.push_str("(noloadbalance)");
    }
    text
}

fn probe_text(observation: &Observation, at: Moment) -> String {
    let Observation::Probe { member, addr, sent, path, outcome } = observation else { return String::new() };
    let mut text = format!("probe {member} ");
    match outcome {
        Err(failure) => text.push_str(failure.code()),
        Ok(word) => {
            text.push_str(&stance_text(word.stance));
            if word.system_id != USUAL_CLUSTER {
                text.push_str(&format!(" id {}", word.system_id));
            }
        }
    }
    if *path == ProbePath::Fresh {
        text.push_str(" fresh");
    }
    if *addr != usual_addr(member) {
        text.push_str(&format!(" from {addr}"));
    }
    text.push_str(&unless_at(" sent", *sent, at));
    text
}

fn stance_text(stance: Stance) -> String {
    match stance {
        Stance::Primary { timeline, written } => {
            format!("primary {timeline}{}", lsn_text(" written", Some(written)))
        }
        Stance::Replica { timeline, received, replayed, streaming } => format!(
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
        Some(USUAL_LSN) => String::new(),
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

/// Seconds, exact, without zeros at the end.
fn span(duration: Duration) -> String {
    let text = format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("=> ")?;
        match self {
            Self::Forward { member, epoch, timeline, evidence, shut } => {
                write!(f, "forward {member}, epoch {epoch}")?;
                if let Some(timeline) = timeline {
                    write!(f, ", timeline {timeline}")?;
                }
                f.write_str(if *evidence { ", evidence" } else { "" })?;
                f.write_str(if *shut { ", shut" } else { "" })
            }
            Self::Hold(code) => write!(f, "hold {code}"),
            Self::HoldText(text) => write!(f, "hold: {text}"),
            Self::Read(servers) if servers.is_empty() => f.write_str("read nowhere"),
            Self::Read(servers) => {
                f.write_str("read")?;
                servers.iter().try_for_each(|(member, standing)| match standing {
                    Standing::Admits => write!(f, " {member}"),
                    Standing::Keeps => write!(f, " {member}(keeps)"),
                })
            }
            Self::Unchanged => f.write_str("unchanged"),
            Self::Alarm(primaries) if primaries.is_empty() => f.write_str("no alarm"),
            Self::Alarm(primaries) => {
                f.write_str("alarm")?;
                primaries.iter().try_for_each(|(member, timeline)| write!(f, " {member}:{timeline}"))
            }
            Self::Attention(Attention::Steady) => f.write_str("attention steady"),
            Self::Attention(Attention::Watchful) => f.write_str("attention watchful"),
            Self::Attention(Attention::Burst(member)) => write!(f, "attention burst {member}"),
            Self::TrustedUntil(moment) => write!(f, "trusted until {}", time(*moment)),
            Self::Report(steps) => {
                let words: Vec<String> =
                    steps.iter().map(|(at, step)| format!("{} {}", report_step(step), time(*at))).collect();
                write!(f, "report {}", words.join(", "))
            }
        }
    }
}

fn report_step(step: &core::Step) -> String {
    match step {
        core::Step::Announced => "announced".to_owned(),
        core::Step::KeyDeleted => "key deleted".to_owned(),
        core::Step::KeyPut(member) => format!("key put {member}"),
        core::Step::Severed => "severed".to_owned(),
        core::Step::LeftRecovery(member) => format!("left recovery {member}"),
        core::Step::Routed(member) => format!("routed {member}"),
    }
}
