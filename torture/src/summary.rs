//! The result of a run: figures of each setup side by side, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::checker::Verdict;
use crate::counts::Counts;
use crate::setups::Setup;

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// The minutes under faults.
    pub minutes: f64,
    /// Whether replication was synchronous.
    pub synchronous: bool,
    /// Faults that began, by kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// How often a member took the leader key.
    pub leader_changes: usize,
    /// Seconds from the last healing until the cluster was healthy again.
    pub cluster_recovered_after: f64,
    /// Seconds from then until both proxies forwarded to its leader, if they took part.
    pub proxies_forward_after: Option<f64>,
    /// The setups.
    pub setups: Vec<SetupSummary>,
}

/// The result of a setup.
#[derive(Clone, Debug, Serialize)]
pub struct SetupSummary {
    /// Its name.
    pub setup: &'static str,
    /// Own counts.
    pub counts: Counts,
    /// The checker's verdict.
    pub verdict: Verdict,
}

impl SetupSummary {
    pub(crate) fn new(setup: Setup, counts: Counts, verdict: Verdict) -> Self {
        Self { setup: setup.name(), counts, verdict }
    }

    /// The number of anomalies.
    ///
    /// With asynchronous replication a failover loses writes, which is none; then only what replication cannot explain counts.
    #[must_use]
    pub fn anomalies(&self, synchronous: bool) -> usize {
        let Counts { stale, in_recovery, read_only, lost, lost_before_kept, doubled, rows_gone, .. } =
            &self.counts;
        let always = stale + in_recovery + read_only + doubled + rows_gone;
        if synchronous { always + lost + self.verdict.illegal.len() } else { always + lost_before_kept }
    }
}

impl Summary {
    /// The anomalies of this project's proxies.
    #[must_use]
    pub fn own_anomalies(&self) -> usize {
        let own = self.setups.iter().filter(|setup| setup.setup == Setup::PgLeaderProxy.name());
        own.map(|setup| setup.anomalies(self.synchronous)).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.synchronous { "synchronous" } else { "asynchronous" };
        let begun: usize = self.faults.values().sum();
        writeln!(f, "seed {}, {:.1} minutes, {mode} replication", self.seed, self.minutes)?;
        writeln!(f, "{begun} faults, {} leaderships", self.leader_changes)?;
        for (kind, number) in &self.faults {
            writeln!(f, "  {number:4} {kind}")?;
        }
        writeln!(f, "healthy {:.1} s after the last fault was undone", self.cluster_recovered_after)?;
        if let Some(after) = self.proxies_forward_after {
            writeln!(f, "both proxies forward {after:.1} s after that")?;
        }
        let mut table = String::new();
        let _ = write!(table, "{:34}", "");
        for setup in &self.setups {
            let _ = write!(table, "{:>18}", setup.setup);
        }
        type Row = (&'static str, fn(&SetupSummary) -> usize);
        let rows: [Row; 15] = [
            ("operations", |setup| setup.counts.operations),
            ("  acknowledged", |setup| setup.counts.acknowledged),
            ("  without effect", |setup| setup.counts.failed),
            ("  outcome unknown", |setup| setup.counts.unknown),
            ("connections refused", |setup| setup.counts.refused.values().sum()),
            ("keys checked", |setup| setup.verdict.keys),
            ("keys not linearizable", |setup| setup.verdict.illegal.len()),
            ("  also without plain reads", |setup| setup.verdict.illegal_confirmed.len()),
            ("keys undecided", |setup| setup.verdict.undecided.len()),
            ("answers while another one leads", |setup| setup.counts.stale),
            ("answers of a server in recovery", |setup| setup.counts.in_recovery),
            ("writes refused with 25006", |setup| setup.counts.read_only),
            ("acknowledged appends lost", |setup| setup.counts.lost),
            ("  beyond what replication loses", |setup| setup.counts.lost_before_kept),
            ("ids doubled", |setup| setup.counts.doubled),
        ];
        for (name, figure) in rows {
            let _ = write!(table, "\n{name:34}");
            for setup in &self.setups {
                let _ = write!(table, "{:>18}", figure(setup));
            }
        }
        writeln!(f, "{table}")
    }
}
