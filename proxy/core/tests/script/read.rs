//! Text to steps: the parser of the scenario language.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pg_leader_proxy_core::{
    ClusterConfig, ConfigProblem, DcsProblem, DcsProblemKind, LeaderKey, Member, MemberName, Moment,
    Observation, OnDcsLoss, Policy, PolicyOptions, ProbeConnection, ProbeFailure, ProbeReply, ReadFallback,
    Restrictions, Revision, Role, Sources, Stamped, SystemId, Timeline,
};

use super::words::{Words, address, duration, number};
use super::{
    DEFAULT_CLUSTER, DEFAULT_LSN, Expectation, Input, Line, Scenario, Step, default_addr, default_socket,
    default_start,
};

/// A line that is not understood, or that is not fulfilled.
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

/// Reads a whole file; `file` is its name for messages.
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
        return Ok(Some(Line::Expect(Expectation::parse(expected.trim())?)));
    }
    let mut words = Words::of(text);
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
        "restrict" => return Ok(Input::Restrict(restrictions(words)?)),
        "key" => leader_key(words, at)?,
        "members" => Observation::Members(members(words)?),
        "config" if words.accept("deleted") => Observation::ConfigLost(ConfigProblem::Deleted),
        "config" if words.accept("unreadable") => Observation::ConfigLost(ConfigProblem::Unreadable),
        "config" => Observation::Config(config(words)?),
        "failsafe" if words.accept("none") => Observation::Failsafe(Default::default()),
        "failsafe" => Observation::Failsafe(words.rest().map(MemberName::new).collect()),
        "switchover" => match words.next("`announced` or `over`")? {
            "announced" => Observation::Switchover { announced: true },
            "over" => Observation::Switchover { announced: false },
            other => return Err(format!("a switchover is `announced` or `over`, not `{other}`")),
        },
        "initialize" if words.accept("none") => Observation::Initialize(None),
        "initialize" => Observation::Initialize(Some(SystemId(words.number("a system identifier")?))),
        "dcs" if words.accept("silent") => Observation::DcsSilent { since: words.moment_after("since", at)? },
        "dcs" if words.accept("tells") => Observation::DcsProblem(None),
        "dcs" if words.accept("problem") => {
            let kind = dcs_problem_kind(words.next("the kind of the problem")?)?;
            let text = words.rest().collect::<Vec<_>>().join(" ");
            Observation::DcsProblem(Some(DcsProblem { kind, text }))
        }
        "clock" if words.accept("stepped") => Observation::ClockStepped { at: words.moment_after("at", at)? },
        "address" => {
            let member = words.member("a member")?;
            let socket = words.socket()?;
            let addr = if words.accept("from") {
                address(words.next("an address")?)?
            } else {
                default_addr(&member)
            };
            Observation::Address { member, addr, socket }
        }
        "probe" => probe(words, at)?,
        other => return Err(format!("`{other}` is not an input")),
    };
    Ok(Input::Observe(observation))
}

fn policy(words: &mut Words<'_>) -> Result<Policy, String> {
    let mut options = PolicyOptions::default();
    for setting in words.rest() {
        let (name, value) =
            setting.split_once('=').ok_or_else(|| format!("`{setting}` is not name=value"))?;
        match (name, value) {
            ("sources", "dcs") => options.sources = Sources::DcsAndServers,
            ("sources", "servers") => options.sources = Sources::ServersOnly,
            ("margin", value) => options.lease_margin = duration(value)?,
            ("max_probe_age", value) => options.max_probe_age = duration(value)?,
            ("max_member_probe_age", value) => options.max_member_probe_age = duration(value)?,
            ("max_suspension", value) => options.max_suspension = duration(value)?,
            ("probe_interval", value) => options.probe_interval = duration(value)?,
            ("on_dcs_loss", "auto") => options.on_dcs_loss = OnDcsLoss::Auto,
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

/// `none`, `paused`, `drained b c` or `paused drained b c`
fn restrictions(words: &mut Words<'_>) -> Result<Restrictions, String> {
    if words.accept("none") {
        return Ok(Restrictions::default());
    }
    let paused = words.accept("paused");
    let mut drained = BTreeSet::new();
    if words.accept("drained") {
        drained.extend(words.rest().map(MemberName::new));
    }
    let restricts = paused || !drained.is_empty();
    restricts
        .then_some(Restrictions { paused, drained })
        .ok_or_else(|| "what is missing; write `none`".to_owned())
}

fn leader_key(words: &mut Words<'_>, at: Moment) -> Result<Observation, String> {
    let mut key = None;
    if !words.accept("vacant") {
        let holder = words.member("the holder, or `vacant`")?;
        key = Some(LeaderKey { holder, create_revision: Revision(words.number("a revision")?) });
    }
    let mut lease = None;
    if words.accept("lease") {
        let fact = words.duration("how long the lease lasts")?;
        lease = Some(Stamped { sent: words.moment_after("asked", at)?, fact });
    }
    Ok(Observation::LeaderKey { key, lease, seen: words.moment_after("seen", at)? })
}

/// Members as `a`, `b@10.0.0.9:5433` or `c(noloadbalance)`; `none` for a cluster without any.
fn members(words: &mut Words<'_>) -> Result<BTreeMap<MemberName, Member>, String> {
    let mut members = BTreeMap::new();
    if words.accept("none") {
        return Ok(members);
    }
    for word in words.rest() {
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
    while let Some(word) = words.peek() {
        words.next(word)?;
        match word {
            "usual" => {}
            "paused" => config.paused = true,
            "standby_cluster" => config.standby_cluster = true,
            "failsafe_mode" => config.failsafe_mode = true,
            "ttl" => config.ttl = words.duration("the length of the lease")?,
            other => return Err(format!("`{other}` is not a setting of the cluster's configuration")),
        }
    }
    Ok(config)
}

fn probe(words: &mut Words<'_>, at: Moment) -> Result<Observation, String> {
    let member = words.member("a member")?;
    let mut outcome = match words.next("the outcome of the probe")? {
        "primary" => Ok(Role::Primary { timeline: words.timeline()?, written: DEFAULT_LSN }),
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
    let mut socket = None;
    let (mut system_id, mut started, mut sent) = (DEFAULT_CLUSTER, default_start(&member), at);
    let mut connection = ProbeConnection::Persistent { since: Moment::default() };
    while let Some(word) = words.peek() {
        words.next(word)?;
        match (word, &mut outcome) {
            ("written", Ok(Role::Primary { written, .. })) => *written = words.lsn()?,
            ("received", Ok(Role::Replica { received, .. })) => *received = words.lsn_or_none()?,
            ("replayed", Ok(Role::Replica { replayed, .. })) => *replayed = words.lsn_or_none()?,
            ("stopped", Ok(Role::Replica { streaming, .. })) => *streaming = false,
            ("id", Ok(_)) => system_id = SystemId(words.number("a system identifier")?),
            ("started", Ok(_)) => started.0 = words.number("when it started")?,
            ("from", _) => addr = address(words.next("an address")?)?,
            ("at", _) if words.accept("nowhere") => socket = Some(None),
            ("at", _) => socket = Some(Some(words.socket()?)),
            ("sent", _) => sent = words.moment("when it was sent")?,
            ("new_connection", _) => connection = ProbeConnection::New,
            ("connected", _) => {
                connection = ProbeConnection::Persistent { since: words.moment("when it was connected")? };
            }
            (other, _) => return Err(format!("`{other}` does not apply to this probe")),
        }
    }
    if sent > at {
        return Err("the reply is older than the probe".to_owned());
    }
    let outcome = outcome.map(|role| ProbeReply { system_id, started, role });
    let socket = socket.unwrap_or_else(|| Some(default_socket(&addr)));
    Ok(Observation::Probe { member, addr, socket, sent, connection, outcome })
}

fn dcs_problem_kind(word: &str) -> Result<DcsProblemKind, String> {
    let known = DcsProblemKind::ALL.into_iter().find(|kind| dcs_problem_word(*kind) == word);
    known.ok_or_else(|| format!("unknown kind of problem with the DCS: `{word}`"))
}

pub(super) const fn dcs_problem_word(kind: DcsProblemKind) -> &'static str {
    match kind {
        DcsProblemKind::Unreachable => "unreachable",
        DcsProblemKind::Denied => "denied",
        DcsProblemKind::BadFiles => "bad-files",
        DcsProblemKind::Failed => "failed",
        DcsProblemKind::NoKeys => "no-keys",
    }
}
