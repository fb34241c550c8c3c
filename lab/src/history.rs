//! What writers saw, and the questions a failover is judged by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, DATABASE};
use crate::key_watch::KeyHistory;
use crate::load::Failure;

/// How much later than the key's change an acknowledgement of the old leader may be without being held against anyone.
///
/// The watch brings the change after some milliseconds, and an acknowledgement is stamped when the writer's task runs,
/// which on a busy machine is later than it came.
pub const TOLERANCE: Duration = Duration::from_millis(100);
/// Ids asked for at once.
const BATCH: usize = 10_000;

/// A write that a server acknowledged.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The row's id.
    pub id: i64,
    /// When the try began, connecting included.
    pub sent: Instant,
    /// When the acknowledgement was seen.
    pub acknowledged: Instant,
    /// The member that took it.
    pub member: Arc<str>,
}

/// A try that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The row's id; it may have been written nevertheless when the session broke.
    pub id: i64,
    /// When the try began.
    pub sent: Instant,
    /// When the error was seen.
    pub ended: Instant,
    /// Why.
    pub failure: Failure,
}

/// A time without any acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last acknowledgement before it, or the begin.
    pub from: Instant,
    /// The first acknowledgement after it, or the end.
    pub until: Instant,
}

impl Gap {
    /// How long it lasted.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.until.saturating_duration_since(self.from)
    }
}

/// What all writers together saw.
#[derive(Clone, Debug)]
pub struct History {
    /// When the writers began.
    pub begin: Instant,
    /// When they were stopped, or the copy was made.
    pub end: Instant,
    /// In order of acknowledgement.
    pub acknowledged: Vec<Acknowledged>,
    /// In order of failure.
    pub failed: Vec<Failed>,
    /// For each kind of failure the first one's words.
    pub words: BTreeMap<Failure, String>,
    /// The limit was reached and the writers stopped by themselves: the end of the history is missing.
    pub full: bool,
}

impl History {
    pub(crate) fn begin(begin: Instant) -> Self {
        Self {
            begin,
            end: begin,
            acknowledged: Vec::new(),
            failed: Vec::new(),
            words: BTreeMap::new(),
            full: false,
        }
    }

    /// Every time without an acknowledged write that was longer than this, in order. The times before the first and
    /// after the last acknowledgement count, so a hang at the end shows.
    #[must_use]
    pub fn gaps(&self, longer_than: Duration) -> Vec<Gap> {
        let mut from = self.begin;
        let mut gaps = Vec::new();
        for until in self.acknowledged.iter().map(|write| write.acknowledged).chain([self.end]) {
            let gap = Gap { from, until };
            if gap.length() > longer_than {
                gaps.push(gap);
            }
            from = until;
        }
        gaps
    }

    /// The longest time without an acknowledged write.
    #[must_use]
    pub fn longest_gap(&self) -> Gap {
        let whole = Gap { from: self.begin, until: self.begin };
        self.gaps(Duration::ZERO).into_iter().max_by_key(Gap::length).unwrap_or(whole)
    }

    /// The first write acknowledged by this member after a moment.
    #[must_use]
    pub fn first_by(&self, member: &str, after: Instant) -> Option<&Acknowledged> {
        self.acknowledged.iter().find(|write| write.acknowledged > after && &*write.member == member)
    }

    /// Writes that reached a server in recovery (SQLSTATE 25006).
    #[must_use]
    pub fn read_only_errors(&self) -> usize {
        self.count(&Failure::ReadOnly)
    }

    /// Tries that took longer than the load's timeout.
    #[must_use]
    pub fn hung(&self) -> usize {
        self.count(&Failure::Hung)
    }

    /// Failures of one kind.
    #[must_use]
    pub fn count(&self, failure: &Failure) -> usize {
        self.failed.iter().filter(|failed| failed.failure == *failure).count()
    }

    /// How many failures of each kind.
    #[must_use]
    pub fn errors_by_kind(&self) -> BTreeMap<Failure, usize> {
        let mut counts = BTreeMap::new();
        for failed in &self.failed {
            *counts.entry(failed.failure.clone()).or_default() += 1;
        }
        counts
    }

    /// Writes that a member acknowledged although another one had held the leader key for longer than `tolerance`
    /// (usually [`TOLERANCE`]) by then: what split brain looks like to a client.
    #[must_use]
    pub fn acknowledged_after_loss(&self, keys: &KeyHistory, tolerance: Duration) -> Vec<&Acknowledged> {
        self.acknowledged
            .iter()
            .filter(|write| {
                let Some(then) = write.acknowledged.checked_sub(tolerance) else { return false };
                let before = keys.holder_at(then);
                let now = keys.holder_at(write.acknowledged);
                before.is_some_and(|holder| holder != &*write.member) && now != Some(&*write.member)
            })
            .collect()
    }

    /// Ids of acknowledged writes that this member, usually the final leader, does not have.
    ///
    /// # Errors
    /// When the member cannot be asked.
    pub async fn lost(&self, cluster: &Cluster, member: &str) -> Result<Vec<i64>> {
        ensure!(!self.full, "the writers reached their limit: the history is not whole");
        let server = cluster.superuser(member, DATABASE).await?;
        let ids: Vec<i64> = self.acknowledged.iter().map(|write| write.id).collect();
        let mut lost = Vec::new();
        for batch in ids.chunks(BATCH) {
            let rows = server
                .query("select id from writes where id = any($1)", &[&batch])
                .await
                .with_context(|| format!("asking {member} for the acknowledged writes"))?;
            let found: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
            lost.extend(batch.iter().filter(|id| !found.contains(id)));
        }
        Ok(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_watch::KeyEvent;

    const MS: Duration = Duration::from_millis(1);

    fn history(begin: Instant, acknowledged: &[(u32, &str)], end: u32) -> History {
        let mut history = History::begin(begin);
        history.end = begin + MS * end;
        for (id, (at, member)) in (1..).zip(acknowledged) {
            let at = begin + MS * *at;
            let member = Arc::from(*member);
            history.acknowledged.push(Acknowledged { id, sent: at, acknowledged: at, member });
        }
        history
    }

    fn keys(begin: Instant, changes: &[(u32, Option<&str>)]) -> KeyHistory {
        let event = |(revision, (at, holder)): (i64, &(u32, Option<&str>))| KeyEvent {
            at: begin + MS * *at,
            holder: holder.map(ToOwned::to_owned),
            create_revision: revision,
            revision,
        };
        KeyHistory { events: (1..).zip(changes).map(event).collect() }
    }

    #[test]
    fn the_longest_gap_lies_between_two_acknowledgements() {
        let begin = Instant::now();
        let history = history(begin, &[(10, "a"), (20, "a"), (520, "b"), (530, "b")], 540);
        assert_eq!(history.longest_gap(), Gap { from: begin + MS * 20, until: begin + MS * 520 });
        assert_eq!(history.gaps(MS * 100).len(), 1);
    }

    #[test]
    fn a_hang_at_the_end_is_a_gap() {
        let begin = Instant::now();
        assert_eq!(history(begin, &[(10, "a")], 5000).longest_gap().length(), MS * 4990);
        assert_eq!(history(begin, &[], 700).longest_gap().length(), MS * 700);
    }

    #[test]
    fn the_old_leader_after_the_new_one_has_the_key_is_found() {
        let begin = Instant::now();
        let keys = keys(begin, &[(0, Some("a")), (100, None), (200, Some("b"))]);
        let history = history(begin, &[(50, "a"), (150, "a"), (290, "a"), (310, "a"), (320, "b")], 400);
        let found: Vec<i64> =
            history.acknowledged_after_loss(&keys, MS * 100).iter().map(|write| write.id).collect();
        assert_eq!(found, [4], "an absent key and the tolerance are held against nobody");
    }

    #[test]
    fn a_leader_that_regained_the_key_is_not_held_against() {
        let begin = Instant::now();
        let keys = keys(begin, &[(0, Some("a")), (100, Some("b")), (300, Some("a"))]);
        let history = history(begin, &[(305, "a"), (250, "a")], 400);
        let found: Vec<i64> =
            history.acknowledged_after_loss(&keys, MS * 100).iter().map(|write| write.id).collect();
        assert_eq!(found, [2]);
    }

    #[test]
    fn failures_are_counted_by_kind() {
        let begin = Instant::now();
        let mut history = history(begin, &[], 10);
        for failure in [Failure::ReadOnly, Failure::Hung, Failure::ReadOnly] {
            history.failed.push(Failed { id: 1, sent: begin, ended: begin, failure });
        }
        assert_eq!((history.read_only_errors(), history.hung()), (2, 1));
        assert_eq!(history.errors_by_kind().len(), 2);
    }
}
