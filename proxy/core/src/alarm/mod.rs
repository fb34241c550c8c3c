//! Alarms: what an operator should look into, although sessions go on.

mod raise;

use std::fmt;

use crate::cluster::{MemberName, Timeline};
use crate::observation::{ConfigProblem, ProbeFailure};

pub(crate) use raise::{CLOCK_STEPPED_FOR, alarms};

/// Something that is wrong now. [`Display`](fmt::Display) gives the sentence, [`code`](Self::code) the metric label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// These members, more than one, say that they are out of recovery.
    TwoPrimaries(Vec<(MemberName, Timeline)>),
    /// A member reports a higher timeline than the leader.
    HigherTimeline {
        /// Who does.
        member: MemberName,
        /// The timeline it reports.
        timeline: Timeline,
        /// Who leads.
        leader: MemberName,
        /// The timeline it writes on.
        leader_timeline: Timeline,
    },
    /// The leader gives no reply any more; new sessions wait, open ones go on as long as its lease is confirmed.
    LeaderSilent(MemberName),
    /// The published address of this member leads to another server than the one that its sessions are on.
    AddressMoved(MemberName, AddressLeadsTo),
    /// This member answers, but takes no new connections.
    NotAcceptingConnections(MemberName, ProbeFailure),
    /// This member rejects the monitoring user.
    MonitorDenied(MemberName),
    /// This member has no connection left for the monitoring user.
    MonitorNoConnection(MemberName),
    /// This member answers the monitoring user with an error.
    MonitorFailed(MemberName),
    /// The cluster does not name the leader among its members any more.
    MemberRecordGone(MemberName),
    /// The DCS has lost the system identifier.
    InitializeGone,
    /// The cluster's configuration was deleted; the last one is in force.
    ConfigGone,
    /// The cluster's configuration cannot be read; the last one is in force.
    ConfigUnreadable,
    /// Without a lease, this member leads because every member answers.
    AllMembersRule(MemberName),
    /// The wall clock was stepped within the last minute.
    ClockStepped,
    /// An operator has paused new sessions.
    PausedByOperator,
    /// An operator has drained this member.
    MemberDrained(MemberName),
}

/// Where an address leads that does not lead to the server in use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressLeadsTo {
    /// To another server that is out of recovery.
    Primary,
    /// To another server that is in recovery.
    Replica,
    /// To a server of another cluster.
    OtherCluster,
    /// To nobody who answers.
    Nobody,
}

impl Alarm {
    /// Every code, for metrics that name them all.
    pub const CODES: [&'static str; 16] = [
        "two_primaries",
        "higher_timeline",
        "leader_silent",
        "address_moved",
        "not_accepting_connections",
        "monitor_denied",
        "monitor_no_connection",
        "monitor_failed",
        "member_record_gone",
        "initialize_gone",
        "config_gone",
        "config_unreadable",
        "all_members_rule",
        "clock_stepped",
        "paused_by_operator",
        "member_drained",
    ];

    /// The name used as a metric label and in scenario files.
    pub const fn code(&self) -> &'static str {
        let index = match self {
            Self::TwoPrimaries(_) => 0,
            Self::HigherTimeline { .. } => 1,
            Self::LeaderSilent(_) => 2,
            Self::AddressMoved(..) => 3,
            Self::NotAcceptingConnections(..) => 4,
            Self::MonitorDenied(_) => 5,
            Self::MonitorNoConnection(_) => 6,
            Self::MonitorFailed(_) => 7,
            Self::MemberRecordGone(_) => 8,
            Self::InitializeGone => 9,
            Self::ConfigGone => 10,
            Self::ConfigUnreadable => 11,
            Self::AllMembersRule(_) => 12,
            Self::ClockStepped => 13,
            Self::PausedByOperator => 14,
            Self::MemberDrained(_) => 15,
        };
        Self::CODES[index]
    }

    /// Whom it is about, where that is one member.
    pub const fn member(&self) -> Option<&MemberName> {
        match self {
            Self::HigherTimeline { member, .. }
            | Self::LeaderSilent(member)
            | Self::AddressMoved(member, _)
            | Self::NotAcceptingConnections(member, _)
            | Self::MonitorDenied(member)
            | Self::MonitorNoConnection(member)
            | Self::MonitorFailed(member)
            | Self::MemberRecordGone(member)
            | Self::AllMembersRule(member)
            | Self::MemberDrained(member) => Some(member),
            Self::TwoPrimaries(_)
            | Self::InitializeGone
            | Self::ConfigGone
            | Self::ConfigUnreadable
            | Self::ClockStepped
            | Self::PausedByOperator => None,
        }
    }
}

impl From<ConfigProblem> for Alarm {
    fn from(problem: ConfigProblem) -> Self {
        match problem {
            ConfigProblem::Deleted => Self::ConfigGone,
            ConfigProblem::Unreadable => Self::ConfigUnreadable,
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoPrimaries(primaries) => {
                match primaries.len() {
                    2 => f.write_str("two primaries")?,
                    count => write!(f, "{count} primaries")?,
                }
                for (index, (member, timeline)) in primaries.iter().enumerate() {
                    let before = if index == 0 { ":" } else { "," };
                    write!(f, "{before} {member} (timeline {timeline})")?;
                }
                Ok(())
            }
            Self::HigherTimeline { member, timeline, leader, leader_timeline } => {
                write!(
                    f,
                    "{member} reports timeline {timeline}, and the leader {leader} is on {leader_timeline}"
                )
            }
            Self::LeaderSilent(member) => {
                write!(f, "the leader {member} gives no reply, and new sessions wait")
            }
            Self::AddressMoved(member, leads_to) => {
                write!(f, "the address of {member} does not lead to its server any more but to {leads_to}")
            }
            Self::NotAcceptingConnections(member, failure) => {
                write!(f, "{member} answers on open connections but {failure} on a new one")
            }
            Self::MonitorDenied(member) => write!(f, "{member} rejects the monitoring user"),
            Self::MonitorNoConnection(member) => {
                write!(f, "{member} has no connection left for the monitoring user")
            }
            Self::MonitorFailed(member) => write!(f, "{member} answers the monitoring user with an error"),
            Self::MemberRecordGone(member) => {
                write!(f, "the leader {member} is not among the members in the cluster's store any more")
            }
            Self::InitializeGone => f.write_str("the key initialize is gone; its last value counts"),
            Self::ConfigGone => f.write_str("the key config is gone; its last value counts"),
            Self::ConfigUnreadable => {
                f.write_str("the key config cannot be read; its last good value counts")
            }
            Self::AllMembersRule(member) => {
                write!(f, "{member} leads without a confirmed lease, because every member answers")
            }
            Self::ClockStepped => f.write_str("the wall clock of the proxy's machine was stepped"),
            Self::PausedByOperator => f.write_str("an operator has paused new sessions, which wait"),
            Self::MemberDrained(member) => {
                write!(f, "an operator has drained {member}, which gets no new readers")
            }
        }
    }
}

impl fmt::Display for AddressLeadsTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "another primary",
            Self::Replica => "a server in recovery",
            Self::OtherCluster => "a server of another cluster",
            Self::Nobody => "nobody who answers",
        })
    }
}
