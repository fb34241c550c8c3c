//! The parser of the scenario language.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Peekable;
use std::str::{FromStr, SplitWhitespace};
use std::time::Duration;

use pg_leader_proxy_core as core;
use pg_leader_proxy_core::{
    Admission, ClusterConfig, LeaderKey, Lsn, Member, MemberName, Moment, Observation, OnDcsLoss, Policy,
    PolicyOptions, ProbeConnection, ProbeFailure, ProbeReply, ProbeUrgency, ReadFallback, Reason, Revision,
    Role, ServerAddr, Sources, Stamped, SystemId, Timeline,
};

use super::{DEFAULT_CLUSTER, DEFAULT_LSN, Expectation, Input, Line, Scenario, Step, default_addr};

/// A line that cannot be parsed, or an expectation that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScriptError {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) why: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    {}", self.file, self.line, self.why, self.text)
    }
}

/// Parses a whole file; `file` is its name for messages.
pub(crate) fn parse(file: &str, text: &str) -> Result<Scenario, ScriptError> {
    let mut lines = Vec::new();
    let mut now = Moment::default();
    for (index, text) in text.lines().enumerate() {
        let error =
            |why| ScriptError { file: file.to_owned(), line: index + 1, text: text.trim().to_owned(), why };
        if let Some(line) = line(text, now).map_err(error)? {
            if let Line::Step(step) = &line {
                now = step.at;
            }
            lines.push((index + 1, line));
        }
    }
    Ok(Scenario { lines })
}

fn line(text: &str, now: Moment) -> Result<Option<Line>, String> {
    let text = text.split('#').next().unwrap_or_default().trim();
    if text.is_empty() {
        return Ok(None);
    }
    if let Some(expected) = text.strip_prefix("=>") {
        return Ok(Some(Line::Expect(expectation(expected.trim())?)));
    }
    let mut words = Words(text.split_whitespace().peekable());
    let at = if text.starts_with("policy") { now } else { words.moment("a moment")? };
    if at < now {
        return Err(format!("time goes back: it was {now} already"));
    }
    let input = input(&mut words, at)?;
    words.end()?;
    Ok(Some(Line::Step(Step { at, input })))
}

fn input(words: &mut Words<'_>, at: Moment) -> Result<Input, String> {
    let observation = match words.next("the input")? {
        "tick" => return Ok(Input::Tick),
        "policy" => return Ok(Input::Policy(policy(words)?)),
        "key" => leader_key(words, at)?,
        "members" => Observation::Members(members(words)?),
        "config" => Observation::Config(config(words)?),
        "switchover" => match words.next("`announced` or `over`")? {
            "announced" => Observation::Switchover { announced: true },
            "over" => Observation::Switchover { announced: false },
            other => return Err(format!("a switchover is `announced` or `over`, not `{other}`")),
        },
        "initialize" if words.accept("none") => Observation::Initialize(None),
        "initialize" => Observation::Initialize(Some(SystemId(words.number("a system identifier")?))),
        "dcs" if words.accept("silent") => Observation::DcsSilent {
            since: if words.accept("since") { words.moment("since when")? } else { at },
        },
        "probe" => probe(words, at)?,
        other => return Err(format!("`{other}` is not an input")),
    };
    Ok(Input::Observe(observation))
}

fn policy(words: &mut Words<'_>) -> Result<Policy, String> {
    let mut options = PolicyOptions::default();
    for setting in words.0.by_ref() {
        let (name, value) =
            setting.split_once('=').ok_or_else(|| format!("`{setting}` is not name=value"))?;
        match (name, value) {
            ("sources", "dcs") => options.sources = Sources::DcsAndServers,
            ("sources", "servers") => options.sources = Sources::ServersOnly,
            ("margin", value) => options.lease_margin = duration(value)?,
            ("max_probe_age", value) => options.max_probe_age = duration(value)?,
            ("max_member_probe_age", value) => options.max_member_probe_age = duration(value)?,
            ("probe_interval", value) => options.probe_interval = duration(value)?,
            ("on_dcs_loss", "all_members") => options.on_dcs_loss = OnDcsLoss::AllMembers,
            ("on_dcs_loss", "fence") => options.on_dcs_loss = OnDcsLoss::Fence,
            ("max_lag", "any") => options.max_lag_bytes = None,
            ("max_lag", bytes) => options.max_lag_bytes = Some(number(bytes, "a number of bytes")?),
            ("read_fallback", "hold") => options.read_fallback = ReadFallback::Hold,
            ("read_fallback", "leader") => options.read_fallback = ReadFallback::Leader,
            _ => return Err(format!("`{setting}` is not an option of the policy")),
        }
    }
    Policy::new(options).map_err(|error| error.to_string())
}

fn leader_key(words: &mut Words<'_>, at: Moment) -> Result<Observation, String> {
    let mut key = None;
    if !words.accept("vacant") {
        let holder = MemberName::new(words.next("the holder, or `vacant`")?);
        key = Some(LeaderKey { holder, create_revision: Revision(words.number("a revision")?) });
    }
    let mut lease = None;
    if words.accept("lease") {
        let fact = duration(words.next("how long the lease lasts")?)?;
        let sent = if words.accept("asked") { words.moment("when it was asked for")? } else { at };
        lease = Some(Stamped { sent, fact });
    }
    let seen = if words.accept("seen") { words.moment("when it was seen")? } else { at };
    Ok(Observation::LeaderKey { key, lease, seen })
}

/// Members as `a`, `b@10.0.0.9:5433` or `c(noloadbalance)`; `none` for a cluster without any.
fn members(words: &mut Words<'_>) -> Result<BTreeMap<MemberName, Member>, String> {
    let mut members = BTreeMap::new();
    if words.accept("none") {
        return Ok(members);
    }
    for word in words.0.by_ref() {
        let (word, no_load_balance) = match word.strip_suffix("(noloadbalance)") {
            Some(word) => (word, true),
            None => (word, false),
        };
        let (name, addr) = match word.split_once('@') {
            Some((name, addr)) => (MemberName::new(name), address(addr)?),
            None => (MemberName::new(word), default_addr(&MemberName::new(word))),
        };
        members.insert(name, Member { addr, no_load_balance });
    }
    if members.is_empty() { Err("the members are missing; write `none`".to_owned()) } else { Ok(members) }
}

fn config(words: &mut Words<'_>) -> Result<ClusterConfig, String> {
    let mut config = ClusterConfig::default();
    if words.accept("usual") {
        return Ok(config);
    }
    for word in words.0.by_ref() {
        match word {
            "paused" => config.paused = true,
            "standby_cluster" => config.standby_cluster = true,
            "failsafe_mode" => config.failsafe_mode = true,
            other => return Err(format!("`{other}` is not a setting of the cluster's configuration")),
        }
    }
    Ok(config)
}

fn probe(words: &mut Words<'_>, at: Moment) -> Result<Observation, String> {
    let member = MemberName::new(words.next("a member")?);
    let mut outcome = match words.next("the outcome of the probe")? {
        "primary" => {
            Ok(Role::Primary { timeline: Timeline(words.number("a timeline")?), written: DEFAULT_LSN })
        }
        "replica" => Ok(Role::Replica {
            timeline: if words.accept("?") { None } else { Some(Timeline(words.number("a timeline")?)) },
            received: Some(DEFAULT_LSN),
            replayed: Some(DEFAULT_LSN),
            streaming: true,
        }),
        code => Err(*ProbeFailure::ALL
            .iter()
            .find(|failure| failure.code() == code)
            .ok_or_else(|| format!("`{code}` is not an outcome of a probe"))?),
    };
    let mut addr = default_addr(&member);
    let (mut system_id, mut sent, mut connection) = (DEFAULT_CLUSTER, at, ProbeConnection::Persistent);
    while let Some(word) = words.0.next() {
        match (word, &mut outcome) {
            ("written", Ok(Role::Primary { written, .. })) => *written = words.lsn()?,
            ("received", Ok(Role::Replica { received, .. })) => *received = words.lsn_or_none()?,
            ("replayed", Ok(Role::Replica { replayed, .. })) => *replayed = words.lsn_or_none()?,
            ("stopped", Ok(Role::Replica { streaming, .. })) => *streaming = false,
            ("id", Ok(_)) => system_id = SystemId(words.number("a system identifier")?),
            ("from", _) => addr = address(words.next("an address")?)?,
            ("sent", _) => sent = words.moment("when it was sent")?,
            ("new_connection", _) => connection = ProbeConnection::New,
            (other, _) => return Err(format!("`{other}` does not apply to this probe")),
        }
    }
    if sent > at {
        return Err("the reply is older than the probe".to_owned());
    }
    let outcome = outcome.map(|role| ProbeReply { system_id, role });
    Ok(Observation::Probe { member, addr, sent, connection, outcome })
}

fn expectation(text: &str) -> Result<Expectation, String> {
    if let Some(reason) = text.strip_prefix("hold:") {
        return Ok(Expectation::HoldText(reason.trim().to_owned()));
    }
    let mut words = Words(text.split_whitespace().peekable());
    let expectation = match words.next("the expectation")? {
        "forward" => return forward(text),
        "report" => return report(text.trim_start_matches("report").trim()),
        "hold" => {
            let code = words.next("the code of a reason")?;
            if !Reason::CODES.contains(&code) {
                return Err(format!("no reason has the code `{code}`"));
            }
            Expectation::Hold(code.to_owned())
        }
        "read" if words.accept("nowhere") => Expectation::Read(Vec::new()),
        "read" => {
            let mut readers: Vec<_> = words.0.by_ref().map(reader).collect();
            readers
                .sort_by_key(|(member, admission)| (*admission == Admission::ExistingOnly, member.clone()));
            Expectation::Read(readers)
        }
        "unchanged" => Expectation::Unchanged,
        "no" if words.accept("alarm") => Expectation::Alarm(Vec::new()),
        "alarm" => Expectation::Alarm(words.0.by_ref().map(alarm_entry).collect::<Result<_, _>>()?),
        "urgency" => Expectation::ProbeUrgency(match words.next("whom to ask")? {
            "normal" => ProbeUrgency::Normal,
            "elevated" => ProbeUrgency::Elevated,
            "burst" => ProbeUrgency::Burst(MemberName::new(words.next("a member")?)),
            other => return Err(format!("`{other}` is not an urgency")),
        }),
        "valid" if words.accept("until") => Expectation::ValidUntil(words.moment("until when")?),
        other => return Err(format!("`{other}` is not an expectation")),
    };
    words.end()?;
    Ok(expectation)
}

/// `forward a, epoch 1[, timeline 1][, all_members][, holds_new]`
fn forward(text: &str) -> Result<Expectation, String> {
    let (mut member, mut epoch, mut timeline, mut all_members, mut holds_new) =
        (None, None, None, false, false);
    for part in text.split(',') {
        let mut words = Words(part.split_whitespace().peekable());
        match words.next("more after the comma")? {
            "forward" => member = Some(MemberName::new(words.next("to whom")?)),
            "epoch" => epoch = Some(words.number("an epoch")?),
            "timeline" => timeline = Some(Timeline(words.number("a timeline")?)),
            "all_members" => all_members = true,
            "holds_new" => holds_new = true,
            other => return Err(format!("`{other}` is not a detail of forwarding")),
        }
        words.end()?;
    }
    let member = member.ok_or("to whom is missing")?;
    let epoch = epoch.ok_or("the epoch is missing")?;
    Ok(Expectation::Forward { member, epoch, timeline, all_members, holds_new })
}

/// `report announced 1s, key deleted 2s, key put b 3s, terminated 2s, left recovery b 4s, routed b 4s`
fn report(text: &str) -> Result<Expectation, String> {
    let mut steps = Vec::new();
    for part in text.split(',') {
        let mut words = Words(part.split_whitespace().peekable());
        let step = match words.next("a step of a report")? {
            "announced" => core::FailoverStep::Announced,
            "terminated" => core::FailoverStep::Terminated,
            "key" if words.accept("deleted") => core::FailoverStep::KeyDeleted,
            "key" if words.accept("put") => {
                core::FailoverStep::KeyPut(MemberName::new(words.next("by whom")?))
            }
            "left" if words.accept("recovery") => {
                core::FailoverStep::LeftRecovery(MemberName::new(words.next("who did")?))
            }
            "routed" => core::FailoverStep::Routed(MemberName::new(words.next("to whom")?)),
            other => return Err(format!("`{other}` is not a step of a report")),
        };
        steps.push((words.moment("when it was seen")?, step));
        words.end()?;
    }
    Ok(Expectation::Report(steps))
}

fn reader(word: &str) -> (MemberName, Admission) {
    match word.strip_suffix("(existing_only)") {
        Some(name) => (MemberName::new(name), Admission::ExistingOnly),
        None => (MemberName::new(word), Admission::NewSessions),
    }
}

fn alarm_entry(word: &str) -> Result<(MemberName, Timeline), String> {
    let (name, timeline) = word.split_once(':').ok_or_else(|| format!("`{word}` is not member:timeline"))?;
    Ok((MemberName::new(name), Timeline(number(timeline, "a timeline")?)))
}

/// The words of a line, from left to right.
struct Words<'a>(Peekable<SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    fn next(&mut self, wanted: &str) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| format!("{wanted} is missing"))
    }

    fn accept(&mut self, word: &str) -> bool {
        self.0.next_if_eq(&word).is_some()
    }

    fn number<N: FromStr>(&mut self, wanted: &str) -> Result<N, String> {
        number(self.next(wanted)?, wanted)
    }

    fn moment(&mut self, wanted: &str) -> Result<Moment, String> {
        Ok(Moment::from_boot(duration(self.next(wanted)?)?))
    }

    fn lsn(&mut self) -> Result<Lsn, String> {
        let word = self.next("an LSN")?;
        let parts = word.split_once('/').and_then(|(high, low)| {
            Some((u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?))
        });
        let (high, low) = parts.ok_or_else(|| format!("`{word}` is not an LSN"))?;
        Ok(Lsn(high << 32 | low))
    }

    fn lsn_or_none(&mut self) -> Result<Option<Lsn>, String> {
        if self.accept("none") { Ok(None) } else { self.lsn().map(Some) }
    }

    fn end(&mut self) -> Result<(), String> {
        match self.0.next() {
            Some(word) => Err(format!("`{word}` is too much")),
            None => Ok(()),
        }
    }
}

fn number<N: FromStr>(word: &str, wanted: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("`{word}` is not {wanted}"))
}

fn address(word: &str) -> Result<ServerAddr, String> {
    let (host, port) = word.rsplit_once(':').ok_or_else(|| format!("`{word}` is not host:port"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(ServerAddr::new(host, number(port, "a port")?))
}

/// `20s`, `0.25s` or `250ms`.
fn duration(word: &str) -> Result<Duration, String> {
    let wrong = || format!("`{word}` is not a time; write `20s`, `0.25s` or `250ms`");
    if let Some(ms) = word.strip_suffix("ms") {
        return ms.parse().map(Duration::from_millis).map_err(|_| wrong());
    }
    let (whole, part) = match word.strip_suffix('s').ok_or_else(wrong)?.split_once('.') {
        Some((whole, part)) if part.len() <= 9 => (whole, format!("{part:0<9}")),
        Some(_) => return Err(wrong()),
        None => (word.trim_end_matches('s'), "0".to_owned()),
    };
    match (whole.parse(), part.parse()) {
        (Ok(whole), Ok(nanos)) => Ok(Duration::new(whole, nanos)),
        _ => Err(wrong()),
    }
}
