//! Which registers and lists are in use at a moment of the run.
//!
//! The cost of a linearizability check grows fast with the number of operations on a key whose outcome is unknown. So a key is
//! used for a minute or two, which is longer than most faults, and then the next one takes its place.

use std::time::Duration;

/// Keys of one kind: some at a time, each for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    /// The first key.
    pub(crate) first: i64,
    /// How many are in use at the same time.
    pub(crate) slots: u32,
    /// How long each is in use. They are replaced one after the other, not all at once.
    pub(crate) used_for: Duration,
}

impl Keys {
    /// The key of a slot at a moment of the run.
    pub(crate) fn at(&self, slot: u32, moment: Duration) -> i64 {
        let slot = slot % self.slots;
        let shifted = moment + self.used_for * slot / self.slots;
        let generation = i64::try_from(shifted.as_nanos() / self.used_for.as_nanos()).unwrap_or(i64::MAX / 2);
        self.first + generation * i64::from(self.slots) + i64::from(slot)
    }

    /// Every key of a run of this length.
    pub(crate) fn all(&self, length: Duration) -> std::ops::Range<i64> {
        self.first..(0..self.slots).map(|slot| self.at(slot, length)).max().unwrap_or(self.first) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_replaced_one_after_the_other() {
        let keys = Keys { first: 100, slots: 2, used_for: Duration::from_secs(60) };
        let at = |second| [0, 1].map(|slot| keys.at(slot, Duration::from_secs(second)));
        assert_eq!(
            [at(0), at(29), at(30), at(60), at(90)],
            [[100, 101], [100, 101], [100, 103], [102, 103], [102, 105]]
        );
        assert_eq!(keys.all(Duration::from_secs(90)), 100..106);
    }
}
