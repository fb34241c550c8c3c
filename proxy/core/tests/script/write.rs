//! Steps to text: the printer of the scenario language. What it prints, the parser reads back as the same.

use std::fmt;
use std::time::Duration;

use pg_leader_proxy_core::{
    ClusterConfig, ConfigProblem, LeaderKey, Lsn, Member, MemberName, Moment, Observation, OnDcsLoss, Policy,
    ProbeConnection, ReadFallback, Restrictions, Role, Sources, Stamped,
};

use super::read::dcs_problem_word;
use super::{
    DEFAULT_CLUSTER, DEFAULT_LSN, Input, Step, default_addr, default_socket, default_start, span, time,
};

/// A whole history as a file: a comment on top, then one line per step.
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
            Self::Restrict(restrictions) => restrictions_text(restrictions),
            Self::Observe(observation) => observation_text(observation, at),
            Self::Tick => "tick".to_owned(),
        }
    }
}

fn restrictions_text(restrictions: &Restrictions) -> String {
    let mut words = vec!["restrict"];
    words.extend(restrictions.paused.then_some("paused"));
    if !restrictions.drained.is_empty() {
        words.push("drained");
        words.extend(restrictions.drained.iter().map(MemberName::as_str));
    }
    if words.len() == 1 {
        words.push("none");
    }
    words.join(" ")
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
        format!("max_suspension={}", span(options.max_suspension)),
        match options.on_dcs_loss {
            OnDcsLoss::Auto => "on_dcs_loss=auto".to_owned(),
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
        Observation::Config(config) => config_text(config),
        Observation::ConfigLost(ConfigProblem::Deleted) => "config deleted".to_owned(),
        Observation::ConfigLost(ConfigProblem::Unreadable) => "config unreadable".to_owned(),
        Observation::Failsafe(names) if names.is_empty() => "failsafe none".to_owned(),
        Observation::Failsafe(names) => {
            let words: Vec<&str> = names.iter().map(MemberName::as_str).collect();
            format!("failsafe {}", words.join(" "))
        }
        Observation::Switchover { announced: true } => "switchover announced".to_owned(),
        Observation::Switchover { announced: false } => "switchover over".to_owned(),
        Observation::Initialize(Some(id)) => format!("initialize {id}"),
        Observation::Initialize(None) => "initialize none".to_owned(),
        Observation::DcsSilent { since } => format!("dcs silent{}", unless_at(" since", *since, at)),
        Observation::DcsProblem(None) => "dcs tells".to_owned(),
        Observation::DcsProblem(Some(problem)) => {
            format!("dcs problem {} {}", dcs_problem_word(problem.kind), problem.text)
        }
        Observation::ClockStepped { at: stepped } => {
            format!("clock stepped{}", unless_at(" at", *stepped, at))
        }
        Observation::Address { member, addr, socket } => {
            let from = if *addr == default_addr(member) { String::new() } else { format!(" from {addr}") };
            format!("address {member} {socket}{from}")
        }
        Observation::Probe { .. } => probe_text(observation, at),
    }
}

fn config_text(config: &ClusterConfig) -> String {
    let words = [
        (config.paused, "paused"),
        (config.standby_cluster, "standby_cluster"),
        (config.failsafe_mode, "failsafe_mode"),
    ];
    let set: Vec<&str> = words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
    let ttl = match config.ttl {
        usual if usual == ClusterConfig::default().ttl => String::new(),
        ttl => format!(" ttl {}", span(ttl)),
    };
    if set.is_empty() { format!("config usual{ttl}") } else { format!("config {}{ttl}", set.join(" ")) }
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
    let Observation::Probe { member, addr, socket, sent, connection, outcome } = observation else {
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
            if word.started != default_start(member) {
                text.push_str(&format!(" started {}", word.started.0));
            }
        }
    }
    match connection {
        ProbeConnection::New => text.push_str(" new_connection"),
        ProbeConnection::Persistent { since } if *since == Moment::default() => {}
        ProbeConnection::Persistent { since } => text.push_str(&format!(" connected {}", time(*since))),
    }
    if *addr != default_addr(member) {
        text.push_str(&format!(" from {addr}"));
    }
    match socket {
        None => text.push_str(" at nowhere"),
        Some(socket) if *socket == default_socket(addr) => {}
        Some(socket) => text.push_str(&format!(" at {socket}")),
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
