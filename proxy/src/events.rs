//! Events as they leave the process: log lines, and records for an orchestrator.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use pg_leader_proxy_core as core;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// How many events may wait for the receiver. When there are more, the oldest are dropped.
const WAITING_MAX: usize = 16;

/// An event for an orchestrator. [`Display`](fmt::Display) gives the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// The kind, for programs: `leader`, `leader_change`, `resumed`, `fenced`, the code of a [`core::Alarm`], or
    /// `alarm_over`.
    pub kind: String,
    /// The message, for people.
    pub message: String,
    /// The facts of the message that apply: `member`, `timeline`, `epoch`, `terminated` and `held` (counts),
    /// `write_downtime_ms` (how long new sessions waited for a leader), `reason` (the code of a [`core::Reason`]), `alarm` (the code
    /// of a [`core::Alarm`]) and `primaries`.
    pub annotations: BTreeMap<String, String>,
}

impl fmt::Display for EventRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<&core::Event> for EventRecord {
    fn from(event: &core::Event) -> Self {
        let facts = match event {
            core::Event::Leader(leader) => {
                let mut facts = vec![
                    ("member", leader.member.to_string()),
                    ("timeline", leader.timeline.to_string()),
                    ("epoch", leader.epoch.to_string()),
                ];
                if leader.change != core::LeaderChange::First || leader.fenced {
                    facts.push(("terminated", leader.impact.terminated.to_string()));
                    facts.push(("held", leader.impact.held.to_string()));
                    facts.push(("write_downtime_ms", leader.downtime.as_millis().to_string()));
                }
                facts.extend(leader.cause.iter().map(|cause| ("reason", cause.code().to_owned())));
                facts
            }
            core::Event::Fenced(lasting, reason) => {
                vec![
                    ("write_downtime_ms", lasting.as_millis().to_string()),
                    ("reason", reason.code().to_owned()),
                ]
            }
            core::Event::Alarm(alarm) | core::Event::AlarmOver(alarm) => alarm_facts(alarm),
        };
        Self {
            kind: event.code().to_owned(),
            message: event.to_string(),
            annotations: facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect(),
        }
    }
}

fn alarm_facts(alarm: &core::Alarm) -> Vec<(&'static str, String)> {
    let mut facts = vec![("alarm", alarm.code().to_owned())];
    facts.extend(alarm.member().map(|member| ("member", member.to_string())));
    if let core::Alarm::TwoPrimaries(primaries) = alarm {
        facts.push(("primaries", names(primaries)));
    }
    facts
}

fn names(primaries: &[(core::MemberName, core::Timeline)]) -> String {
    let names: Vec<&str> = primaries.iter().map(|(member, _)| member.as_str()).collect();
    names.join(",")
}

/// Logs an event; as a warning if an operator should look at it.
pub(crate) fn log(event: &core::Event) {
    match event {
        core::Event::Leader(leader) => {
            let core::LeaderEvent { member, timeline, epoch, impact, downtime, cause, .. } = leader;
            let (terminated, held, write_downtime_ms) =
                (impact.terminated, impact.held, downtime.as_millis());
            let cause = cause.as_ref().map(core::Reason::code);
            info!(%member, %timeline, %epoch, terminated, held, write_downtime_ms, cause, "{event}");
        }
        core::Event::Fenced(lasting, reason) => {
            warn!(write_downtime_ms = lasting.as_millis(), reason = reason.code(), "{event}");
        }
        core::Event::Alarm(alarm) => warn!(alarm = alarm.code(), "{event}"),
        core::Event::AlarmOver(alarm) => info!(alarm = alarm.code(), "{event}"),
    }
}

/// A queue for a slow receiver of events, so that control never waits for it.
#[derive(Debug, Default)]
pub struct Outbox {
    receiver: Option<mpsc::Sender<EventRecord>>,
    waiting: VecDeque<EventRecord>,
    dropped: u64,
}

impl Outbox {
    /// An outbox for `receiver`; without a receiver, events are discarded.
    pub const fn new(receiver: Option<mpsc::Sender<EventRecord>>) -> Self {
        Self { receiver, waiting: VecDeque::new(), dropped: 0 }
    }

    /// Sends `event`, or queues it behind those that already wait.
    pub fn send(&mut self, event: EventRecord) {
        let Some(receiver) = &self.receiver else { return };
        if self.waiting.is_empty() {
            match receiver.try_send(event) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
                Err(mpsc::error::TrySendError::Full(event)) => self.waiting.push_back(event),
            }
            return;
        }
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
            self.dropped += 1;
            warn!(dropped = self.dropped, "events are dropped, because the receiver is too slow");
        }
        self.waiting.push_back(event);
    }

    /// Whether events wait, so that [`forward`](Self::forward) has something to do.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends the oldest waiting event as soon as there is room. It is cancel safe.
    pub async fn forward(&mut self) {
        let Some(receiver) = &self.receiver else { return };
        match receiver.reserve().await {
            Ok(room) => {
                if let Some(event) = self.waiting.pop_front() {
                    room.send(event);
                }
            }
            Err(_) => self.waiting.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> EventRecord {
        EventRecord { kind: "leader".to_owned(), message: number.to_string(), annotations: BTreeMap::new() }
    }

    #[tokio::test]
    async fn a_slow_receiver_gets_the_newest_events_in_order() {
        let (sender, mut receiver) = mpsc::channel(2);
        let mut outbox = Outbox::new(Some(sender));
        (0..2 + WAITING_MAX + 3).for_each(|number| outbox.send(event(number)));
        assert_eq!((outbox.waiting.len(), outbox.dropped), (WAITING_MAX, 3));
        let mut read = Vec::new();
        while outbox.is_waiting() {
            read.push(receiver.recv().await.unwrap().message.parse::<usize>().unwrap());
            outbox.forward().await;
        }
        drop(outbox);
        while let Some(event) = receiver.recv().await {
            read.push(event.message.parse().unwrap());
        }
        let newest = 2 + 3..2 + WAITING_MAX + 3;
        assert_eq!(read, (0..2).chain(newest).collect::<Vec<_>>(), "the receiver had two before it was slow");
    }

    #[tokio::test]
    async fn without_a_receiver_events_are_discarded() {
        let (sender, receiver) = mpsc::channel(1);
        let mut outbox = Outbox::new(Some(sender));
        (0..3).for_each(|number| outbox.send(event(number)));
        drop(receiver);
        outbox.forward().await;
        assert!(!outbox.is_waiting());
        outbox.send(event(4));
        assert!(!outbox.is_waiting());
    }

    #[test]
    fn the_facts_of_an_event_are_annotations() {
        let story = core::Event::Leader(core::LeaderEvent {
            member: core::MemberName::new("epyc"),
            timeline: core::Timeline(4),
            epoch: core::RouteEpoch::default(),
            change: core::LeaderChange::Changed,
            impact: core::Impact { terminated: 12, held: 7 },
            downtime: std::time::Duration::from_millis(310),
            cause: Some(core::Reason::NoLeader),
            fenced: false,
        });
        let EventRecord { kind, message, annotations } = EventRecord::from(&story);
        assert_eq!(kind, "leader_change");
        assert!(
            message.starts_with(
                "leader is now epyc (timeline 4): 12 sessions terminated, 7 clients held 310 ms"
            )
        );
        let facts: Vec<(&str, &str)> =
            annotations.iter().map(|(name, fact)| (name.as_str(), fact.as_str())).collect();
        let expected = [
            ("epoch", "0"),
            ("held", "7"),
            ("member", "epyc"),
            ("reason", "no_leader"),
            ("terminated", "12"),
            ("timeline", "4"),
            ("write_downtime_ms", "310"),
        ];
        assert_eq!(facts, expected);
    }
}
