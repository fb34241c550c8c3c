//! The page for people: the decision and why at the top, then members, sessions and the last changes of leader.

use std::fmt::Display;

use askama::Template;
use pg_leader_proxy_core::display::{Counted, HumanBytes, HumanDuration};

use super::answers::{AskedAs, FailoverAnswer, FailoversAnswer, MemberAnswer, RoutingAnswer};
use super::text;
use crate::phase::Phase;

/// The page. The template escapes every value: names of members come from the DCS.
#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct Page<'a> {
    pub(super) routing: &'a RoutingAnswer,
    pub(super) failovers: &'a FailoversAnswer,
}

/// A row of the table of members.
struct MemberRow<'a> {
    member: &'a MemberAnswer,
    timeline: String,
    lag: String,
    last_probe: String,
    read_route: &'static str,
}

impl MemberRow<'_> {
    fn is_departed(&self) -> bool {
        self.member.asked_as == AskedAs::Departed
    }
}

impl Page<'_> {
    fn all_well(&self) -> bool {
        let routing = self.routing;
        routing.write.reason.is_none() && routing.alarms.is_empty() && !self.is_draining()
    }

    fn is_draining(&self) -> bool {
        self.routing.phase == Phase::Draining
    }

    fn members(&self) -> impl Iterator<Item = MemberRow<'_>> {
        self.routing.evidence.members.iter().map(|member| {
            let probe = member.last_probe.as_ref();
            MemberRow {
                member,
                timeline: match probe.map(|probe| probe.timeline) {
                    Some(None) => "unknown".to_owned(),
                    timeline => or_dash(timeline.flatten()),
                },
                lag: or_dash(probe.and_then(|probe| probe.lag_bytes).map(HumanBytes)),
                last_probe: or_dash(
                    probe.map(|probe| format!("{} ago", HumanDuration::from_millis(probe.age_ms))),
                ),
                read_route: self.read_route(member),
            }
        })
    }

    fn read_route(&self, member: &MemberAnswer) -> &'static str {
        match self.routing.read.servers.iter().find(|server| server.member == member.member) {
            Some(server) if server.new_sessions => "takes new sessions",
            Some(_) => "keeps its sessions",
            None => "–",
        }
    }

    /// The last changes of leader, the newest first.
    fn failovers(&self) -> impl Iterator<Item = &FailoverAnswer> {
        self.failovers.failovers.iter().rev().take(text::FAILOVERS_SHOWN)
    }

    const fn span(&self, millis: &u64) -> HumanDuration {
        HumanDuration::from_millis(*millis)
    }

    fn signed(&self, number: &i64) -> String {
        format!("{number:+}")
    }
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}
