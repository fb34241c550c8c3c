//! The news that nobody has taken away yet.

use std::collections::VecDeque;

use pg_leader_proxy::app::EventRecord;

use super::protocol::Dispatch;
use crate::clock;

/// How many pieces of news are kept while no plugin is there to pass them on. Nomad itself keeps ten events of a task.
const KEPT: usize = 16;

/// What was told and has not been delivered, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Board {
    last: u64,
    waiting: VecDeque<Dispatch>,
}

impl Board {
    /// Keeps a piece of news. If there are too many, the oldest is forgotten.
    pub(super) fn post(&mut self, news: EventRecord) {
        self.last += 1;
        if self.waiting.len() == KEPT {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Dispatch { number: self.last, at: clock::now(), news });
    }

    /// The first one after that number.
    pub(super) fn after(&self, number: u64) -> Option<&Dispatch> {
        self.waiting.iter().find(|dispatch| dispatch.number > number)
    }

    /// Forgets all up to that number.
    pub(super) fn delivered(&mut self, number: u64) {
        self.waiting.retain(|dispatch| dispatch.number > number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn news(number: usize) -> EventRecord {
        EventRecord { kind: "leader".to_owned(), message: number.to_string(), annotations: BTreeMap::new() }
    }

    #[test]
    fn the_last_ones_are_kept_until_they_are_delivered() {
        let mut board = Board::default();
        for number in 1..=KEPT + 3 {
            board.post(news(number));
        }
        assert_eq!(board.after(0).unwrap().news, news(4), "the oldest are forgotten");
        assert_eq!(board.after(5).unwrap().number, 6);
        board.delivered(18);
        assert_eq!(board.after(0).unwrap().number, 19);
        board.delivered(19);
        assert_eq!(board.after(0), None);
        board.post(news(20));
        assert_eq!(board.after(19).unwrap().number, 20, "numbers go on");
    }
}
