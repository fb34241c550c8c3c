//! Which alarms to report: each kind once it has lasted for a while, and again once it is over.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alarm::Alarm;
use crate::cluster::MemberName;
use crate::event::Event;
use crate::moment::Moment;

use super::earliest_repeat;

/// How long an alarm must have lasted before it is reported; two primaries are reported at once.
const RAISED_AFTER: Duration = Duration::from_secs(3);
/// How long alarms of a kind must have been over before that is reported.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// The alarms and what was reported of them, by code.
#[derive(Clone, Debug, Default)]
pub(super) struct AlarmHistories(BTreeMap<&'static str, AlarmHihistory>);

impl AlarmHistories {
    pub(super) fn observe(&mut self, alarms: &[Alarm], now: Moment) {
        for alarm in alarms {
            self.0.entry(alarm.code()).or_insert_with(|| AlarmHihistory::new(now));
        }
        for (code, history) in &mut self.0 {
            history.observe(alarms.iter().filter(|alarm| alarm.code() == *code).cloned().collect(), now);
        }
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.0.values().filter_map(AlarmHihistory::due).min()
    }

    pub(super) fn take_due(&mut self, now: Moment) -> Vec<Event> {
        self.0.values_mut().flat_map(|history| history.take_due(now)).collect()
    }
}

/// Alarms of one kind, and what was reported of them.
#[derive(Clone, Debug)]
struct AlarmHihistory {
    standing: Vec<Alarm>,
    /// When the first of them began, or the last one ended.
    since: Moment,
    /// The members that were reported; empty once the end was reported.
    reported: Vec<Option<MemberName>>,
    /// The alarm that was reported last.
    last: Option<Alarm>,
    raised_at: Option<Moment>,
}

impl AlarmHihistory {
    const fn new(now: Moment) -> Self {
        Self { standing: Vec::new(), since: now, reported: Vec::new(), last: None, raised_at: None }
    }

    fn observe(&mut self, standing: Vec<Alarm>, now: Moment) {
        if standing.is_empty() != self.standing.is_empty() {
            self.since = now;
        }
        self.standing = standing;
    }

    fn unreported(&self) -> impl Iterator<Item = &Alarm> {
        self.standing
            .iter()
            .filter(|alarm| subjects(alarm).iter().any(|subject| !self.reported.contains(subject)))
    }

    fn due(&self) -> Option<Moment> {
        if self.standing.is_empty() {
            return (!self.reported.is_empty()).then(|| self.since + OVER_AFTER);
        }
        let at_once = matches!(self.unreported().next()?, Alarm::TwoPrimaries(_));
        let after = if at_once { Duration::ZERO } else { RAISED_AFTER };
        Some((self.since + after).max(earliest_repeat(self.raised_at)))
    }

    fn take_due(&mut self, now: Moment) -> Vec<Event> {
        if self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        if self.standing.is_empty() {
            self.reported.clear();
            return self.last.take().map(Event::AlarmOver).into_iter().collect();
        }
        let news: Vec<Alarm> = self.unreported().cloned().collect();
        self.reported = self.standing.iter().flat_map(subjects).collect();
        self.last = news.last().cloned();
        self.raised_at = Some(now);
        news.into_iter().map(Event::Alarm).collect()
    }
}

/// The members that an alarm names; `None` if it names none.
fn subjects(alarm: &Alarm) -> Vec<Option<MemberName>> {
    if let Alarm::TwoPrimaries(primaries) = alarm {
        primaries.iter().map(|(member, _)| Some(member.clone())).collect()
    } else {
        vec![alarm.member().cloned()]
    }
}
