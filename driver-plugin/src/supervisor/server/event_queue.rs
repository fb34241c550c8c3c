//! The events that no plugin has delivered yet.

use std::collections::VecDeque;

use pg_leader_proxy::app::EventRecord;

use crate::clock;
use crate::supervisor::protocol::QueuedEvent;

/// How many events are kept while no plugin delivers them. Nomad shows the last ten of a task.
const EVENTS_MAX: usize = 16;

/// The undelivered events, oldest first.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    last_number: u64,
    events: VecDeque<QueuedEvent>,
}

impl EventQueue {
    /// Adds an event. A full queue drops its oldest.
    pub(super) fn push(&mut self, event: EventRecord) {
        self.last_number += 1;
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(QueuedEvent { number: self.last_number, at: clock::now(), event });
    }

    /// The first event after this number.
    pub(super) fn after(&self, number: u64) -> Option<&QueuedEvent> {
        self.events.iter().find(|event| event.number > number)
    }

    /// Removes the events up to this number.
    pub(super) fn delivered(&mut self, number: u64) {
        self.events.retain(|event| event.number > number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn event(number: usize) -> EventRecord {
        EventRecord { kind: "leader".to_owned(), message: number.to_string(), annotations: BTreeMap::new() }
    }

    #[test]
    fn the_last_events_are_kept_until_they_are_delivered() {
        let mut queue = EventQueue::default();
        for number in 1..=EVENTS_MAX + 3 {
            queue.push(event(number));
        }
        assert_eq!(queue.after(0).unwrap().event, event(4), "the oldest are dropped");
        assert_eq!(queue.after(5).unwrap().number, 6);
        queue.delivered(18);
        assert_eq!(queue.after(0).unwrap().number, 19);
        queue.delivered(19);
        assert_eq!(queue.after(0), None);
        queue.push(event(20));
        assert_eq!(queue.after(19).unwrap().number, 20, "numbers are never reused");
    }
}
