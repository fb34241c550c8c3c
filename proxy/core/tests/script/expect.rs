//! Expectations: what a scenario says of the routing as it then stands, read and printed.

use std::fmt;
use std::net::SocketAddr;

use pg_leader_proxy_core::{
    Admission, Alarm, Basis, FailoverStep, Leader, MemberName, Moment, OpenSessions, ProbeUrgency,
    ReadServer, Reason, Timeline, WriteRoute,
};

use super::time;
use super::words::Words;

/// What a scenario expects after the step above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// Writes go to this member.
    Forward(Forward),
    /// Writes go nowhere, for the reason with this code.
    Hold(String),
    /// Writes go nowhere, for the reason with this text.
    HoldText(String),
    /// New write sessions wait, for the reason with this text.
    WaitsText(String),
    /// Readers go to these, and nowhere if there are none.
    Read(Vec<Reader>),
    /// The step changed nothing, nor did the time that passed before it.
    Unchanged,
    /// All alarms, each as one word.
    Alarms(Vec<String>),
    /// One of the alarms, by its text.
    AlarmText(String),
    /// Whom to ask, and how urgently.
    ProbeUrgency(ProbeUrgency),
    /// Everybody who is asked.
    Asked(Vec<String>),
    /// Until when the write route may be used without another reply.
    ValidUntil(Moment),
    /// The steps of the latest failover report.
    Report(Vec<(Moment, FailoverStep)>),
}

/// Where writes go; what is not said is not looked at, but for the last two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    member: MemberName,
    epoch: u64,
    timeline: Option<Timeline>,
    socket: Option<SocketAddr>,
    all_members: bool,
    /// The code of the reason why new sessions wait.
    waits: Option<String>,
}

/// A server of the read route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reader {
    /// The code of the reason why new sessions wait.
    waits: Option<String>,
    member: MemberName,
    /// Whether the sessions that it has end when they are idle.
    ends: bool,
}

impl Expectation {
    /// Reads what follows the arrow.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        for (start, of) in [
            ("hold:", Self::HoldText as fn(String) -> Self),
            ("waits:", Self::WaitsText),
            ("alarm:", Self::AlarmText),
        ] {
            if let Some(rest) = text.strip_prefix(start) {
                return Ok(of(rest.trim().to_owned()));
            }
        }
        let mut words = Words::of(text);
        let expectation = match words.next("the expectation")? {
            "forward" => return Forward::parse(text).map(Self::Forward),
            "report" => return report(text.trim_start_matches("report").trim()),
            "hold" => Self::Hold(reason_code(words.next("the code of a reason")?)?),
            "read" if words.accept("nowhere") => Self::Read(Vec::new()),
            "read" => {
                let mut readers = words.rest().map(Reader::parse).collect::<Result<Vec<_>, _>>()?;
                readers.sort();
                Self::Read(readers)
            }
            "unchanged" => Self::Unchanged,
            "no" if words.accept("alarms") => Self::Alarms(Vec::new()),
            "alarms" => Self::Alarms(words.rest().map(alarm_code).collect::<Result<_, _>>()?),
            "asked" => Self::Asked(words.rest().map(str::to_owned).collect()),
            "urgency" => Self::ProbeUrgency(match words.next("whom to ask")? {
                "normal" => ProbeUrgency::Normal,
                "elevated" => ProbeUrgency::Elevated,
                "burst" => ProbeUrgency::Burst(words.member("a member")?),
                other => return Err(format!("`{other}` is not an urgency")),
            }),
            "valid" if words.accept("until") => Self::ValidUntil(words.moment("until when")?),
            other => return Err(format!("`{other}` is not an expectation")),
        };
        words.end()?;
        Ok(expectation)
    }
}

impl Forward {
    /// `forward a, epoch 1[, timeline 1][, at 10.0.0.1:5432][, all_members][, waits leader_silent]`
    fn parse(text: &str) -> Result<Self, String> {
        let (mut member, mut epoch, mut timeline, mut socket) = (None, None, None, None);
        let (mut all_members, mut waits) = (false, None);
        for part in text.split(',') {
            let mut words = Words::of(part);
            match words.next("more after the comma")? {
                "forward" => member = Some(words.member("to whom")?),
                "epoch" => epoch = Some(words.number("an epoch")?),
                "timeline" => timeline = Some(words.timeline()?),
                "at" => socket = Some(words.socket()?),
                "all_members" => all_members = true,
                "waits" => waits = Some(reason_code(words.next("the code of a reason")?)?),
                other => return Err(format!("`{other}` is not a detail of forwarding")),
            }
            words.end()?;
        }
        let member = member.ok_or("to whom is missing")?;
        let epoch = epoch.ok_or("the epoch is missing")?;
        Ok(Self { member, epoch, timeline, socket, all_members, waits })
    }

    fn of(leader: &Leader) -> Self {
        Self {
            member: leader.member().clone(),
            epoch: leader.epoch().number(),
            timeline: Some(leader.timeline()),
            socket: Some(leader.socket()),
            all_members: leader.basis() == Basis::AllMembers,
            waits: code(leader.admission()),
        }
    }

    /// Whether it is as `leader` is.
    pub(super) fn is(&self, leader: &Leader) -> bool {
        let whole = Self {
            timeline: self.timeline.or_else(|| Some(leader.timeline())),
            socket: self.socket.or_else(|| Some(leader.socket())),
            ..self.clone()
        };
        whole == Self::of(leader)
    }
}

impl Reader {
    /// `b`, or `c(replica_lagging)`, or `d(replica_promoted,ends)`
    fn parse(word: &str) -> Result<Self, String> {
        let (name, inside) = match word.strip_suffix(')').and_then(|word| word.split_once('(')) {
            Some((name, inside)) => (name, Some(inside)),
            None => (word, None),
        };
        let (reason, ends) = match inside.map(|inside| inside.split_once(',').unwrap_or((inside, ""))) {
            Some((reason, "ends")) => (Some(reason), true),
            Some((reason, "")) => (Some(reason), false),
            Some((_, other)) => return Err(format!("`{other}` says nothing about open sessions")),
            None => (None, false),
        };
        Ok(Self { waits: reason.map(reason_code).transpose()?, member: MemberName::new(name), ends })
    }

    /// All servers of the read route.
    pub(super) fn of_all(servers: &[ReadServer]) -> Expectation {
        let mut readers: Vec<Self> = servers
            .iter()
            .map(|server| Self {
                waits: code(&server.admission),
                member: server.member.clone(),
                ends: server.open_sessions == OpenSessions::EndWhenIdle,
            })
            .collect();
        readers.sort();
        Expectation::Read(readers)
    }
}

/// `report announced 1s, waiting 1.5s, key deleted 2s, key put b 3s, terminated 2s, left recovery b 4s, routed b 4s`
fn report(text: &str) -> Result<Expectation, String> {
    let mut steps = Vec::new();
    for part in text.split(',') {
        let mut words = Words::of(part);
        let step = match words.next("a step of a report")? {
            "announced" => FailoverStep::Announced,
            "waiting" => FailoverStep::Waiting,
            "terminated" => FailoverStep::Terminated,
            "key" if words.accept("deleted") => FailoverStep::KeyDeleted,
            "key" if words.accept("put") => FailoverStep::KeyPut(words.member("by whom")?),
            "left" if words.accept("recovery") => FailoverStep::LeftRecovery(words.member("who did")?),
            "routed" => FailoverStep::Routed(words.member("to whom")?),
            other => return Err(format!("`{other}` is not a step of a report")),
        };
        steps.push((words.moment("when it was seen")?, step));
        words.end()?;
    }
    Ok(Expectation::Report(steps))
}

fn code(admission: &Admission) -> Option<String> {
    admission.waits().map(|reason| reason.code().to_owned())
}

fn reason_code(code: &str) -> Result<String, String> {
    if Reason::CODES.contains(&code) {
        Ok(code.to_owned())
    } else {
        Err(format!("no reason has the code `{code}`"))
    }
}

fn alarm_code(word: &str) -> Result<String, String> {
    let code = word.split('(').next().unwrap_or_default();
    if Alarm::CODES.contains(&code) {
        Ok(word.to_owned())
    } else {
        Err(format!("no alarm has the code `{code}`"))
    }
}

/// An alarm as one word: its code and whom it is about.
pub(super) fn alarm_word(alarm: &Alarm) -> String {
    let about = match alarm {
        Alarm::TwoPrimaries(primaries) => {
            let each: Vec<String> =
                primaries.iter().map(|(member, timeline)| format!("{member}:{timeline}")).collect();
            each.join(",")
        }
        Alarm::HigherTimeline { member, timeline, .. } => format!("{member}:{timeline}"),
        Alarm::AddressMoved(member, leads_to) => format!("{member}:{leads_to:?}").to_lowercase(),
        Alarm::NotAcceptingConnections(member, failure) => format!("{member}:{}", failure.code()),
        Alarm::LeaderSilent(_)
        | Alarm::MonitorDenied(_)
        | Alarm::MonitorNoConnection(_)
        | Alarm::MonitorFailed(_)
        | Alarm::MemberRecordGone(_)
        | Alarm::InitializeGone
        | Alarm::ConfigGone
        | Alarm::ConfigUnreadable
        | Alarm::AllMembersRule(_)
        | Alarm::ClockStepped
        | Alarm::PausedByOperator
        | Alarm::MemberDrained(_) => alarm.member().map(ToString::to_string).unwrap_or_default(),
    };
    if about.is_empty() { alarm.code().to_owned() } else { format!("{}({about})", alarm.code()) }
}

/// The write route as an expectation that is met.
pub(super) fn write_text(write: &WriteRoute) -> String {
    match write {
        WriteRoute::Hold(reason) => format!("=> hold {}: {reason}", reason.code()),
        WriteRoute::Forward(leader) => Expectation::Forward(Forward::of(leader)).to_string(),
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("=> ")?;
        match self {
            Self::Forward(forward) => forward.fmt(f),
            Self::Hold(code) => write!(f, "hold {code}"),
            Self::HoldText(text) => write!(f, "hold: {text}"),
            Self::WaitsText(text) => write!(f, "waits: {text}"),
            Self::Read(servers) if servers.is_empty() => f.write_str("read nowhere"),
            Self::Read(servers) => {
                f.write_str("read")?;
                servers.iter().try_for_each(|reader| write!(f, " {reader}"))
            }
            Self::Unchanged => f.write_str("unchanged"),
            Self::Alarms(alarms) if alarms.is_empty() => f.write_str("no alarms"),
            Self::Alarms(alarms) => write!(f, "alarms {}", alarms.join(" ")),
            Self::AlarmText(text) => write!(f, "alarm: {text}"),
            Self::Asked(members) => write!(f, "asked {}", members.join(" ")),
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

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "forward {}, epoch {}", self.member, self.epoch)?;
        if let Some(timeline) = self.timeline {
            write!(f, ", timeline {timeline}")?;
        }
        if let Some(socket) = self.socket {
            write!(f, ", at {socket}")?;
        }
        f.write_str(if self.all_members { ", all_members" } else { "" })?;
        self.waits.iter().try_for_each(|code| write!(f, ", waits {code}"))
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = if self.ends { ",ends" } else { "" };
        match &self.waits {
            None => write!(f, "{}", self.member),
            Some(code) => write!(f, "{}({code}{ends})", self.member),
        }
    }
}

fn report_step(step: &FailoverStep) -> String {
    match step {
        FailoverStep::Announced => "announced".to_owned(),
        FailoverStep::KeyDeleted => "key deleted".to_owned(),
        FailoverStep::KeyPut(member) => format!("key put {member}"),
        FailoverStep::Terminated => "terminated".to_owned(),
        FailoverStep::LeftRecovery(member) => format!("left recovery {member}"),
        FailoverStep::Routed(member) => format!("routed {member}"),
        FailoverStep::Waiting => "waiting".to_owned(),
    }
}
