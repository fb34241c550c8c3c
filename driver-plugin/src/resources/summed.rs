//! Processor time of a group that nobody accounts for, from its processes one by one.

use std::collections::BTreeMap;

use super::processes::{Modes, Proc, Stat};
use super::usage::Times;

/// Grows with every look at the processes, and never shrinks when one of them ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Summed {
    last: BTreeMap<u32, Stat>,
    so_far: Modes,
}

impl Summed {
    /// The processes whose next state must be given too if they are still there: one that has ended leaves the group at
    /// once, but its time reaches its parent only when that has waited for it.
    pub(super) fn known(&self) -> impl Iterator<Item = &Stat> {
        self.last.values()
    }

    /// Counts what was used since the last look.
    pub(super) fn advance(&mut self, now: &[Stat]) -> Times {
        let now: BTreeMap<u32, Stat> = now.iter().map(|stat| (stat.pid, *stat)).collect();
        let mut before: Vec<&Stat> = self.last.values().collect();
        // The time of who has gone lives on in its parent, if that is one of ours; otherwise it must not be expected.
        before.retain(|stat| lives(&now, stat) || self.was_inherited(&now, stat));
        let (then, total) = (sum(before.into_iter()), sum(now.values()));
        self.so_far.user += total.user.saturating_sub(then.user);
        self.so_far.system += total.system.saturating_sub(then.system);
        self.last = now;
        let (user, system) = (Proc::duration(self.so_far.user), Proc::duration(self.so_far.system));
        Times { user, system, all: user + system }
    }

    fn was_inherited(&self, now: &BTreeMap<u32, Stat>, gone: &Stat) -> bool {
        let mut heir = self.last.get(&gone.parent);
        // Each step goes to an older process, so it ends; the bound holds even if /proc should tell nonsense.
        for _ in 0..self.last.len() {
            match heir {
                None => return false,
                Some(stat) if lives(now, stat) => return true,
                Some(stat) => heir = self.last.get(&stat.parent),
            }
        }
        false
    }
}

fn lives(now: &BTreeMap<u32, Stat>, stat: &Stat) -> bool {
    now.get(&stat.pid).is_some_and(|current| current.start == stat.start)
}

fn sum<'a>(stats: impl Iterator<Item = &'a Stat>) -> Modes {
    stats.fold(Modes::default(), |sum, stat| Modes {
        user: sum.user + stat.own.user + stat.children.user,
        system: sum.system + stat.own.system + stat.children.system,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn process(pid: u32, parent: u32, own: u64, children: u64) -> Stat {
        let modes = |user| Modes { user, system: 0 };
        Stat { pid, parent, start: 1, ended: false, own: modes(own), children: modes(children) }
    }

    fn grown(summed: &mut Summed, now: &[Stat]) -> Duration {
        let before = summed.clone().advance(&summed.last.values().copied().collect::<Vec<_>>()).all;
        summed.advance(now).all - before
    }

    #[test]
    fn what_each_process_used_since_counts_once() {
        let mut summed = Summed::default();
        summed.advance(&[process(10, 1, 100, 0), process(11, 10, 50, 0)]);
        let now = [process(10, 1, 130, 0), process(11, 10, 60, 0), process(12, 10, 5, 0)];
        assert_eq!(grown(&mut summed, &now), Proc::duration(45));
    }

    #[test]
    fn a_child_that_was_waited_for_is_not_counted_again_in_its_parent() {
        let mut summed = Summed::default();
        summed.advance(&[process(10, 1, 100, 0), process(11, 10, 50, 0)]);
        // It used three ticks more before it ended.
        assert_eq!(grown(&mut summed, &[process(10, 1, 100, 53)]), Proc::duration(3));
    }

    #[test]
    fn a_grandchild_counts_once_when_its_parent_ends_too() {
        let mut summed = Summed::default();
        summed.advance(&[process(10, 1, 0, 0), process(11, 10, 20, 0), process(12, 11, 30, 0)]);
        assert_eq!(grown(&mut summed, &[process(10, 1, 1, 50)]), Proc::duration(1));
    }

    #[test]
    fn the_end_of_a_process_of_somebody_else_takes_nothing_away() {
        let mut summed = Summed::default();
        summed.advance(&[process(10, 1, 100, 0), process(20, 7, 500, 0)]);
        assert_eq!(grown(&mut summed, &[process(10, 1, 108, 0)]), Proc::duration(8));
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let mut summed = Summed::default();
        summed.advance(&[process(10, 1, 100, 0), process(11, 7, 500, 0)]);
        let reused = Stat { start: 2, ..process(11, 7, 4, 0) };
        assert_eq!(grown(&mut summed, &[process(10, 1, 100, 0), reused]), Proc::duration(4));
    }
}
