//! Turns: the order in which sessions run that have more to do than one turn allows.

use std::collections::VecDeque;

/// Sessions that wait for another turn, by their keys. Each is in the queue at most once, however many events it gets, so
/// the queue is no longer than the number of sessions.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: VecDeque<usize>,
    /// Whether the session with this key is in the queue.
    waiting: Vec<bool>,
}

impl Turns {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether this session waits for a turn.
    pub(super) fn waits(&self, key: usize) -> bool {
        self.waiting.get(key).is_some_and(|waits| *waits)
    }

    /// Adds a session that is not in the queue to its end.
    pub(super) fn push(&mut self, key: usize) {
        debug_assert!(!self.waits(key), "session {key} waits for two turns");
        if self.waiting.len() <= key {
            self.waiting.resize(key + 1, false);
        }
        self.waiting[key] = true;
        self.queue.push_back(key);
    }

    /// The session whose turn it is.
    pub(super) fn next(&mut self) -> Option<usize> {
        let key = self.queue.pop_front()?;
        self.waiting[key] = false;
        Some(key)
    }

    /// Removes a session that has ended, since another one may get its key.
    pub(super) fn remove(&mut self, key: usize) {
        if self.waits(key) {
            self.waiting[key] = false;
            self.queue.retain(|other| *other != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_in_order_and_one_at_a_time() {
        let mut turns = Turns::default();
        [7, 2].into_iter().for_each(|key| turns.push(key));
        assert!(turns.waits(7) && !turns.waits(3) && !turns.waits(99));
        assert_eq!(turns.next(), Some(7));
        assert!(!turns.waits(7));
        turns.push(7);
        assert_eq!([turns.next(), turns.next(), turns.next()], [Some(2), Some(7), None]);
    }

    #[test]
    fn the_key_of_a_session_that_has_ended_can_be_used_again() {
        let mut turns = Turns::default();
        [1, 2].into_iter().for_each(|key| turns.push(key));
        turns.remove(1);
        turns.remove(5);
        turns.push(1);
        assert_eq!([turns.next(), turns.next(), turns.next()], [Some(2), Some(1), None]);
        assert!(turns.is_empty());
    }

    #[test]
    #[should_panic(expected = "two turns")]
    #[cfg(debug_assertions)]
    fn a_second_turn_of_one_session_is_a_mistake() {
        let mut turns = Turns::default();
        turns.push(1);
        turns.push(1);
    }
}
