//! What can be counted without a search: lost and doubled ids, answers of servers that were not to answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lab::KeyHistory;
use serde::Serialize;

use crate::operation::{Operation, Outcome, Request};
use crate::workload::Recorded;

/// How long after another member took the leader key an answer of the former leader may still arrive at its client. The key's
/// watch and the client's task run late on a machine with more work than cores.
const LATE: Duration = Duration::from_millis(500);
/// SQLSTATE of a write on a server in recovery.
const READ_ONLY: &str = "25006";

/// The counts of one setup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Operations that began.
    pub operations: usize,
    /// Those that were answered.
    pub acknowledged: usize,
    /// Those that certainly had no effect.
    pub failed: usize,
    /// Those whose outcome is unknown.
    pub unknown: usize,
    /// Connection attempts that failed, by SQLSTATE or kind.
    pub refused: BTreeMap<String, usize>,
    /// Answers of a server after another one had taken the leader key.
    pub stale: usize,
    /// Answers of a server in recovery.
    pub in_recovery: usize,
    /// Writes that reached a server in recovery.
    pub read_only: usize,
    /// Acknowledged appends of which an id is missing at the end.
    pub lost: usize,
    /// Those of them that replication cannot have lost: a later append of the same leadership was kept.
    pub lost_before_kept: usize,
    /// Ids that are in a list twice.
    pub doubled: usize,
    /// Operations that did not find the row that was made before the first fault.
    pub rows_gone: usize,
}

/// Something that must not be, with its time, for the story.
#[derive(Clone, Debug)]
pub(crate) struct Anomaly {
    pub(crate) at: Duration,
    pub(crate) what: String,
}

/// Who led when, and which server is whose.
#[derive(Debug)]
pub(crate) struct Leaderships<'a> {
    pub(crate) origin: Instant,
    pub(crate) keys: &'a KeyHistory,
    /// The members' names by the addresses of their servers.
    pub(crate) members: &'a BTreeMap<IpAddr, String>,
}

impl Leaderships<'_> {
    fn member(&self, server: IpAddr) -> &str {
        self.members.get(&server).map_or("unknown", String::as_str)
    }

    /// The member that held the key instead of this one for longer than [`LATE`] when the answer arrived.
    fn successor(&self, member: &str, completed: Duration) -> Option<&str> {
        let now = self.origin + completed;
        let before = self.keys.holder_at(now.checked_sub(LATE)?).filter(|holder| *holder != member)?;
        (self.keys.holder_at(now) != Some(member)).then_some(before)
    }

    /// The number of the leadership in which this member answered.
    fn number(&self, member: &str, completed: Duration) -> Option<i64> {
        let state = self.keys.at(self.origin + completed)?;
        (state.holder.as_deref() == Some(member)).then_some(state.create_revision)
    }
}

/// Counts, and tells each anomaly.
pub(crate) fn count(recorded: &Recorded, leaderships: &Leaderships<'_>) -> (Counts, Vec<Anomaly>) {
    let operations = &recorded.operations;
    let mut counts =
        Counts { operations: operations.len(), refused: recorded.refused.clone(), ..Counts::default() };
    let mut anomalies = Vec::new();
    for operation in operations {
        let mut tell = |what: String| {
            let asked = format!("{:?} of {}", operation.request, operation.key);
            anomalies.push(Anomaly { at: operation.completed, what: format!("{asked}: {what}") });
        };
        match &operation.outcome {
            Outcome::Failed(error) | Outcome::Unknown(error) => {
                if matches!(operation.outcome, Outcome::Failed(_)) {
                    counts.failed += 1;
                } else {
                    counts.unknown += 1;
                }
                if error.starts_with(READ_ONLY) {
                    counts.read_only += 1;
                    tell(format!("SQLSTATE {error}"));
                }
                if error == crate::statements::ROW_GONE {
                    counts.rows_gone += 1;
                    tell(error.clone());
                }
            }
            Outcome::Acknowledged { server, in_recovery, .. } => {
                counts.acknowledged += 1;
                let member = leaderships.member(*server);
                if *in_recovery {
                    counts.in_recovery += 1;
                    tell(format!("answered by {member}, which is in recovery"));
                }
                if let Some(successor) = leaderships.successor(member, operation.completed) {
                    counts.stale += 1;
                    tell(format!("answered by {member}, while {successor} leads"));
                }
            }
        }
    }
    count_ids(recorded, leaderships, &mut counts, &mut anomalies);
    (counts, anomalies)
}

fn count_ids(
    recorded: &Recorded,
    leaderships: &Leaderships<'_>,
    counts: &mut Counts,
    anomalies: &mut Vec<Anomaly>,
) {
    let mut found: BTreeSet<(i64, usize, i64)> = BTreeSet::new();
    for (group, lists) in &recorded.lists {
        for (list, ids) in lists.iter().enumerate() {
            counts.doubled += ids.iter().filter(|id| !found.insert((*group, list, **id))).count();
        }
    }
    let mut lost: Vec<(&Operation, &str)> = Vec::new();
    // When the last append that was kept began, by leadership.
    let mut kept: BTreeMap<i64, Duration> = BTreeMap::new();
    for operation in &recorded.operations {
        let (Request::Append { id, lists }, Outcome::Acknowledged { server, .. }) =
            (operation.request, &operation.outcome)
        else {
            continue;
        };
        let member = leaderships.member(*server);
        let there = |list: usize| found.contains(&(operation.key, list, id));
        if lists.iter().enumerate().any(|(list, chosen)| *chosen && !there(list)) {
            lost.push((operation, member));
        } else if let Some(number) = leaderships.number(member, operation.completed) {
            let latest = kept.entry(number).or_default();
            *latest = operation.invoked.max(*latest);
        }
    }
    counts.lost = lost.len();
    for (operation, member) in lost {
        let number = leaderships.number(member, operation.completed);
        let later = number.and_then(|number| kept.get(&number)).filter(|kept| **kept > operation.completed);
        counts.lost_before_kept += usize::from(later.is_some());
        let what =
            format!("{:?} of {}: acknowledged by {member}, and lost", operation.request, operation.key);
        let what = if later.is_some() { format!("{what}, although later appends were kept") } else { what };
        anomalies.push(Anomaly { at: operation.completed, what });
    }
}

#[cfg(test)]
mod tests {
    use lab::KeyEvent;

    use super::*;
    use crate::operation::Answer;

    const SERVERS: [(u8, &str); 2] = [(21, "a"), (22, "b")];

    fn address(host: u8) -> IpAddr {
        IpAddr::from([127, 2, 3, host])
    }

    /// `a` leads from the start, `b` from the tenth second on.
    fn judge(operations: Vec<Operation>, lists: &[(i64, [Vec<i64>; 2])]) -> Counts {
        let origin = Instant::now();
        let event = |(revision, second, holder): (i64, u64, &str)| KeyEvent {
            at: origin + Duration::from_secs(second),
            holder: Some(holder.to_owned()),
            create_revision: revision,
            revision,
        };
        let keys = KeyHistory { events: [(1, 0, "a"), (2, 10, "b")].map(event).to_vec() };
        let members = SERVERS.map(|(host, name)| (address(host), name.to_owned())).into();
        let recorded =
            Recorded { operations, lists: lists.iter().cloned().collect(), refused: BTreeMap::new() };
        let leaderships = Leaderships { origin, keys: &keys, members: &members };
        let (counts, anomalies) = count(&recorded, &leaderships);
        let counted = counts.stale + counts.in_recovery + counts.read_only + counts.lost + counts.rows_gone;
        assert_eq!(anomalies.len(), counted);
        counts
    }

    fn append(id: i64, second: u64, host: u8) -> Operation {
        let at = Duration::from_secs(second);
        let answer = Answer::Lists([vec![], vec![]]);
        Operation {
            process: 0,
            key: 1,
            request: Request::Append { id, lists: [true, false] },
            invoked: at,
            completed: at + Duration::from_millis(10),
            outcome: Outcome::Acknowledged { answer, server: address(host), in_recovery: false },
        }
    }

    #[test]
    fn an_answer_of_the_former_leader_is_stale() {
        let counts = judge(
            vec![append(1, 9, 21), append(2, 11, 21), append(3, 11, 22)],
            &[(1, [vec![1, 2, 3], vec![]])],
        );
        assert_eq!((counts.acknowledged, counts.stale, counts.lost), (3, 1, 0));
    }

    #[test]
    fn what_replication_lost_is_the_end_of_a_leadership() {
        let operations = vec![append(1, 1, 21), append(2, 2, 21), append(3, 3, 21), append(4, 12, 22)];
        let counts = judge(operations.clone(), &[(1, [vec![1, 4], vec![]])]);
        assert_eq!((counts.lost, counts.lost_before_kept), (2, 0));
        let counts = judge(operations, &[(1, [vec![1, 3, 4], vec![]])]);
        assert_eq!((counts.lost, counts.lost_before_kept), (1, 1));
    }

    #[test]
    fn an_id_in_a_list_twice_is_doubled_and_one_in_both_lists_is_not() {
        let counts = judge(vec![append(1, 1, 21)], &[(1, [vec![1, 1], vec![1]])]);
        assert_eq!((counts.doubled, counts.lost), (1, 0));
    }

    #[test]
    fn a_server_in_recovery_and_a_read_only_error_are_counted() {
        let mut answered = append(1, 1, 21);
        if let Outcome::Acknowledged { in_recovery, .. } = &mut answered.outcome {
            *in_recovery = true;
        }
        let failed = Operation {
            outcome: Outcome::Failed("25006 cannot execute UPDATE in a read-only transaction".to_owned()),
            ..append(2, 2, 21)
        };
        let gone = Operation {
            outcome: Outcome::Unknown(crate::statements::ROW_GONE.to_owned()),
            ..append(3, 2, 21)
        };
        let counts = judge(vec![answered, failed, gone], &[(1, [vec![1], vec![]])]);
        assert_eq!((counts.in_recovery, counts.read_only, counts.rows_gone), (1, 1, 1));
        assert_eq!((counts.failed, counts.unknown), (1, 1));
    }
}
