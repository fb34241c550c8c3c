//! What the writers recorded, and the questions a failover is judged by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, DATABASE};
use crate::key_watch::KeyHistory;
use crate::load::Failure;

/// How long after the leader key changed hands an acknowledgement of the old leader is still accepted.
///
/// The watch reports the change some milliseconds late. An acknowledgement is stamped when the writer's task runs, which
/// on a busy machine is later than it arrived.
pub const TOLERANCE: Duration = Duration::from_millis(100);
/// Ids in one query.
const BATCH: usize = 10_000;

/// A write that a server acknowledged.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The row's id.
    pub id: i64,
    /// When the attempt began, connecting included.
    pub sent: Instant,
    /// When the acknowledgement arrived.
    pub acknowledged: Instant,
    /// The member that acknowledged it.
    pub member: Arc<str>,
}

/// An attempt that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The row's id. The row may exist all the same if the session broke.
    pub id: i64,
    /// When the attempt began.
    pub sent: Instant,
    /// When the error arrived.
    pub ended: Instant,
    /// Why it failed.
    pub failure: Failure,
}

/// A time without any acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downtime {
    /// The last acknowledgement before it, or the beginning.
    pub from: Instant,
    /// The first acknowledgement after it, or the end.
    pub until: Instant,
}

impl Downtime {
    /// How long it lasted.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.until.saturating_duration_since(self.from)
    }
}

/// What all writers together recorded.
#[derive(Clone, Debug)]
pub struct History {
    /// When the writers began.
    pub begin: Instant,
    /// When they were stopped, or this copy was made.
    pub end: Instant,
    /// In the order of acknowledgement.
    pub acknowledged: Vec<Acknowledged>,
    /// In the order of failure.
    pub failed: Vec<Failed>,
    /// The first error message of each kind of failure.
    pub messages: BTreeMap<Failure, String>,
    /// Whether the writers stopped early because they reached their limit: the end of the history is missing.
    pub full: bool,
}

impl History {
    pub(crate) fn begin(begin: Instant) -> Self {
        Self {
            begin,
            end: begin,
            acknowledged: Vec::new(),
            failed: Vec::new(),
            messages: BTreeMap::new(),
            full: false,
        }
    }

    /// Every write downtime longer than this, in order. The times before the first and after the last acknowledgement
    /// count too, so a hang at the end shows.
    #[must_use]
    pub fn write_downtimes(&self, longer_than: Duration) -> Vec<Downtime> {
        let mut from = self.begin;
        let mut downtimes = Vec::new();
        for until in self.acknowledged.iter().map(|write| write.acknowledged).chain([self.end]) {
            let downtime = Downtime { from, until };
            if downtime.length() > longer_than {
                downtimes.push(downtime);
            }
            from = until;
        }
        downtimes
    }

    /// The longest time without an acknowledged write.
    #[must_use]
    pub fn longest_write_downtime(&self) -> Downtime {
        let none = Downtime { from: self.begin, until: self.begin };
        self.write_downtimes(Duration::ZERO).into_iter().max_by_key(Downtime::length).unwrap_or(none)
    }

    /// The first write that this member acknowledged after a moment.
    #[must_use]
    pub fn first_by(&self, member: &str, after: Instant) -> Option<&Acknowledged> {
        self.acknowledged.iter().find(|write| write.acknowledged > after && &*write.member == member)
    }

    /// Writes that reached a server in recovery (SQLSTATE 25006).
    #[must_use]
    pub fn read_only_errors(&self) -> usize {
        self.count(&Failure::ReadOnly)
    }

    /// Attempts that took longer than the load's timeout.
    #[must_use]
    pub fn hung(&self) -> usize {
        self.count(&Failure::Hung)
    }

    fn count(&self, failure: &Failure) -> usize {
        self.failed.iter().filter(|failed| failed.failure == *failure).count()
    }

    /// The number of failures of each kind.
    #[must_use]
    pub fn errors_by_kind(&self) -> BTreeMap<Failure, usize> {
        let mut counts = BTreeMap::new();
        for failed in &self.failed {
            *counts.entry(failed.failure.clone()).or_default() += 1;
        }
        counts
    }

    /// Writes that a member acknowledged although another one had already held the leader key for longer than
    /// `tolerance` (usually [`TOLERANCE`]): split brain as a client sees it.
    #[must_use]
    pub fn stale_leader_writes(&self, keys: &KeyHistory, tolerance: Duration) -> Vec<&Acknowledged> {
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
        ensure!(!self.full, "the writers reached their limit: the history is incomplete");
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
    fn the_longest_downtime_lies_between_two_acknowledgements() {
        let begin = Instant::now();
        let history = history(begin, &[(10, "a"), (20, "a"), (520, "b"), (530, "b")], 540);
        assert_eq!(
            history.longest_write_downtime(),
            Downtime { from: begin + MS * 20, until: begin + MS * 520 }
        );
        assert_eq!(history.write_downtimes(MS * 100).len(), 1);
    }

    #[test]
    fn a_hang_at_the_end_is_downtime() {
        let begin = Instant::now();
        assert_eq!(history(begin, &[(10, "a")], 5000).longest_write_downtime().length(), MS * 4990);
        assert_eq!(history(begin, &[], 700).longest_write_downtime().length(), MS * 700);
    }

    #[test]
    fn a_write_of_the_old_leader_after_the_key_changed_hands_is_found() {
        let begin = Instant::now();
        let keys = keys(begin, &[(0, Some("a")), (100, None), (200, Some("b"))]);
        let history = history(begin, &[(50, "a"), (150, "a"), (290, "a"), (310, "a"), (320, "b")], 400);
        let found: Vec<i64> =
            history.stale_leader_writes(&keys, MS * 100).iter().map(|write| write.id).collect();
        assert_eq!(found, [4], "writes without a key holder, or within the tolerance, do not count");
    }

    #[test]
    fn writes_of_a_leader_that_regained_the_key_do_not_count() {
        let begin = Instant::now();
        let keys = keys(begin, &[(0, Some("a")), (100, Some("b")), (300, Some("a"))]);
        let history = history(begin, &[(305, "a"), (250, "a")], 400);
        let found: Vec<i64> =
            history.stale_leader_writes(&keys, MS * 100).iter().map(|write| write.id).collect();
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
