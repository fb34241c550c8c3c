//! The templates of the page. They escape every value: names of members come from the DCS.

use std::fmt::Display;
use std::time::{Duration, UNIX_EPOCH};

use askama::Template;
use pg_leader_proxy_core::Moment;
use pg_leader_proxy_core::display::{Counted, HumanBytes, HumanDuration};

use super::history::{Chart, History, position};
use super::timeline::Timeline;
use crate::admin::answers::{
    AskedAs, FailoverAnswer, FailoversAnswer, LeaseAnswer, MemberAnswer, RoutingAnswer, StepKind,
};
use crate::admin::text;
use crate::phase::Phase;

/// The page as a whole.
#[derive(Template)]
#[template(path = "page/page.html")]
pub(super) struct Page<'a> {
    pub(super) cluster: &'a str,
    pub(super) parts: &'a Parts,
}

/// The parts of the page that change, rendered.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The decision, the members and the sessions.
    pub(super) now: String,
    /// The changes of leader.
    pub(super) failovers: String,
}

impl Parts {
    /// Renders them, with the present moment on both clocks of the machine.
    pub(super) fn render(
        routing: &RoutingAnswer,
        failovers: &FailoversAnswer,
        history: &History,
        (now, wall): (Moment, Duration),
    ) -> askama::Result<Self> {
        let charts = history.charts(now);
        Ok(Self {
            now: Now { routing, failovers, charts, wall }.render()?,
            failovers: Failovers { failovers, wall }.render()?,
        })
    }
}

/// The decision, the members and the sessions.
#[derive(Template)]
#[template(path = "page/now.html")]
struct Now<'a> {
    routing: &'a RoutingAnswer,
    failovers: &'a FailoversAnswer,
    charts: [Chart; 2],
    wall: Duration,
}

/// The changes of leader.
#[derive(Template)]
#[template(path = "page/failovers.html")]
struct Failovers<'a> {
    failovers: &'a FailoversAnswer,
    wall: Duration,
}

/// A row of the table of members.
struct MemberRow<'a> {
    member: &'a MemberAnswer,
    timeline: String,
    lag: String,
    last_probe: String,
    read_route: String,
}

impl MemberRow<'_> {
    fn is_departed(&self) -> bool {
        self.member.asked_as == AskedAs::Departed
    }
}

impl Now<'_> {
    /// How good the news is, as a class of the style sheet.
    fn tone(&self) -> &'static str {
        let write = &self.routing.write;
        if write.leader.is_none() {
            return "bad";
        }
        match write.reason.is_none() && self.routing.alarms.is_empty() && !self.is_draining() {
            true => "good",
            false => "doubtful",
        }
    }

    fn is_draining(&self) -> bool {
        self.routing.phase == Phase::Draining
    }

    /// What the tab of the browser says.
    fn title(&self) -> String {
        let leader = self.routing.write.leader.as_ref();
        let state =
            leader.map_or_else(|| "no leader".to_owned(), |leader| format!("{} leads", leader.member));
        format!("{state} · {}", self.routing.cluster)
    }

    /// For how long the present leader has had the writes, or for how long they have waited.
    fn since(&self) -> Option<HumanDuration> {
        let last = self.failovers.failovers.last();
        let age = match (&self.routing.write.leader, last) {
            (Some(leader), Some(last)) => {
                let started = last.steps.iter().find(|step| step.step == StepKind::ForwardingStarted);
                started.filter(|_| last.to_epoch == Some(leader.epoch))?.age_ms
            }
            (Some(_), None) => self.routing.evidence.leader_key.as_ref()?.age_ms,
            (None, Some(last)) => last.age_ms,
            (None, None) => self.routing.uptime_ms,
        };
        Some(HumanDuration::from_millis(age))
    }

    fn readers_go_to(&self) -> Vec<&str> {
        let servers = self.routing.read.servers.iter().filter(|server| server.new_sessions);
        servers.map(|server| server.member.as_str()).collect()
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

    fn read_route(&self, member: &MemberAnswer) -> String {
        match self.routing.read.servers.iter().find(|server| server.member == member.member) {
            Some(server) if server.new_sessions => "yes".to_owned(),
            Some(server) => {
                let reason = server.reason.as_ref().map(|reason| format!("no: {}", reason.text));
                reason.unwrap_or_else(|| "no".to_owned())
            }
            None => "–".to_owned(),
        }
    }

    /// Where in the charts the changes of leader are.
    fn changes(&self) -> impl Iterator<Item = u64> {
        let ages = self.failovers.failovers.iter().map(|failover| Duration::from_millis(failover.age_ms));
        ages.filter_map(position)
    }

    const fn span(&self, millis: &u64) -> HumanDuration {
        HumanDuration::from_millis(*millis)
    }

    /// How much of a lease is left, in hundredths of the whole.
    fn lease_left(&self, lease: &LeaseAnswer) -> u64 {
        (lease.valid_for_ms.saturating_mul(100) / lease.ttl_ms.max(1)).min(100)
    }

    fn clock(&self) -> String {
        clock_time(self.wall)
    }
}

impl Failovers<'_> {
    /// The changes of leader, the newest first.
    fn newest_first(&self) -> impl Iterator<Item = (u64, &FailoverAnswer)> {
        let numbered: Vec<_> = self.failovers.numbered().collect();
        numbered.into_iter().rev()
    }

    fn timeline<'b>(&self, failover: &&'b FailoverAnswer) -> Timeline<'b> {
        Timeline::of(failover)
    }

    fn date(&self, failover: &FailoverAnswer) -> String {
        let at = self.wall.saturating_sub(Duration::from_millis(failover.age_ms));
        format!("{} {}", date(at), clock_time(at))
    }

    const fn span(&self, millis: &u64) -> HumanDuration {
        HumanDuration::from_millis(*millis)
    }

    fn signed(&self, number: &i64) -> String {
        format!("{number:+}").replace('-', "−")
    }
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

/// `2026-11-26`, of a time since the Unix epoch.
fn date(wall: Duration) -> String {
    rfc3339(wall).chars().take(10).collect()
}

/// `12:34:56 UTC`, of a time since the Unix epoch.
fn clock_time(wall: Duration) -> String {
    rfc3339(wall).chars().skip(11).take(8).chain(" UTC".chars()).collect()
}

fn rfc3339(wall: Duration) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + wall).to_string()
}
