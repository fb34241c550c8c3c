//! A schedule of faults, made from a seed: what begins when, lasts how long, and strikes whom.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// The first fault strikes a cluster under load.
const FIRST: Duration = Duration::from_secs(5);

/// What a fault does. `Role` is resolved when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL to PostgreSQL; Patroni starts it again.
    PostgresKilled,
    /// SIGSTOP to PostgreSQL.
    PostgresFrozen,
    /// SIGKILL to Patroni; PostgreSQL stays as it is.
    PatroniKilled,
    /// SIGSTOP to Patroni.
    PatroniFrozen,
    /// SIGKILL to both.
    MemberKilled,
    /// SIGSTOP to both.
    MemberFrozen,
    /// A member does not reach etcd: packets are lost.
    MemberWithoutEtcd,
    /// A member reaches nobody, and nobody reaches it.
    MemberIsolated,
    /// A member's PostgreSQL refuses new connections.
    ConnectionsRefused,
    /// Everything to and from a member's PostgreSQL arrives late.
    LinkSlow,
    /// A replica receives no WAL: the link between the members.
    ReplicationStopped,
    /// A proxy does not reach etcd: packets are lost.
    ProxyWithoutEtcd,
    /// A proxy's connections to etcd are reset, and new ones refused.
    ProxyRefusedByEtcd,
    /// What a proxy sends to etcd and hears from it arrives late.
    ProxyEtcdSlow,
    /// SIGKILL to one etcd server.
    EtcdServerKilled,
    /// SIGKILL to two of three.
    EtcdQuorumLost,
    /// etcd's own leadership moves.
    EtcdLeaderMoved,
    /// A planned switchover.
    Switchover,
    /// `pg_promote()` at a replica, behind Patroni's back.
    PromotedByHand,
    /// SIGKILL to a proxy; started again at the end.
    ProxyKilled,
    /// SIGSTOP to a proxy.
    ProxyFrozen,
    /// SIGHUP to a proxy, with another hold.
    ProxyReloaded,
    /// A second proxy on the same addresses; the first drains.
    ProxyReplaced,
}

/// Whom a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The member that holds the leader key when it begins.
    Leader,
    /// Another member.
    Replica,
    /// One of the proxies, counted from 0.
    Proxy(usize),
    /// One of the etcd servers, counted from 0.
    Etcd(usize),
    /// The cluster.
    Cluster,
}

/// What a fault occupies: two that overlap never have the same, so that the end of one does not undo the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Processes,
    Links,
    Etcd,
    ProxyLinks(usize),
    Proxy(usize),
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From the start of the run.
    pub begin: Duration,
    /// When it is undone; for a kind that undoes itself, the same as `begin`.
    pub end: Duration,
    /// What it does.
    pub kind: Kind,
    /// Whom it strikes.
    pub target: Target,
}

/// The faults of a run, in the order of their beginnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The seed that it was made from.
    pub seed: u64,
    /// The faults. Each ends within the run.
    pub faults: Vec<Fault>,
}

impl Schedule {
    /// The schedule of a seed. A longer run with the same seed begins with the same faults.
    #[must_use]
    pub fn new(seed: u64, length: Duration, kinds: &[Kind]) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut busy: BTreeMap<Part, Duration> = BTreeMap::new();
        let mut faults = Vec::new();
        let mut begin = FIRST;
        while begin < length && !kinds.is_empty() {
            // Every number is drawn in every round, whatever becomes of it.
            let kind = kinds.get(rng.usize(..kinds.len())).copied().unwrap_or(Kind::PostgresKilled);
            let target = kind.target(&mut rng);
            let (shortest, longest) = kind.lasts();
            let end = begin + seconds(&mut rng, shortest, longest);
            // Mostly close together, so that they overlap; at times long enough for the cluster to recover.
            let gap = if rng.u8(..4) == 0 { seconds(&mut rng, 15, 40) } else { seconds(&mut rng, 1, 12) };
            let part = kind.part(target);
            if end < length && busy.get(&part).is_none_or(|until| *until < begin) {
                busy.insert(part, end);
                faults.push(Fault { begin, end, kind, target });
            }
            begin += gap;
        }
        Self { seed, faults }
    }
}

fn seconds(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from * 1000..=to * 1000))
}

impl Kind {
    /// All.
    pub const ALL: [Self; 23] = [
        Self::PostgresKilled,
        Self::PostgresFrozen,
        Self::PatroniKilled,
        Self::PatroniFrozen,
        Self::MemberKilled,
        Self::MemberFrozen,
        Self::MemberWithoutEtcd,
        Self::MemberIsolated,
        Self::ConnectionsRefused,
        Self::LinkSlow,
        Self::ReplicationStopped,
        Self::ProxyWithoutEtcd,
        Self::ProxyRefusedByEtcd,
        Self::ProxyEtcdSlow,
        Self::EtcdServerKilled,
        Self::EtcdQuorumLost,
        Self::EtcdLeaderMoved,
        Self::Switchover,
        Self::PromotedByHand,
        Self::ProxyKilled,
        Self::ProxyFrozen,
        Self::ProxyReloaded,
        Self::ProxyReplaced,
    ];

    /// Its name in the schedule, the story and the summary.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PostgresKilled => "PostgreSQL killed",
            Self::PostgresFrozen => "PostgreSQL frozen",
            Self::PatroniKilled => "Patroni killed",
            Self::PatroniFrozen => "Patroni frozen",
            Self::MemberKilled => "PostgreSQL and Patroni killed",
            Self::MemberFrozen => "PostgreSQL and Patroni frozen",
            Self::MemberWithoutEtcd => "member without etcd",
            Self::MemberIsolated => "member isolated",
            Self::ConnectionsRefused => "new connections refused",
            Self::LinkSlow => "slow link to a member",
            Self::ReplicationStopped => "replication stopped",
            Self::ProxyWithoutEtcd => "proxy without etcd",
            Self::ProxyRefusedByEtcd => "proxy refused by etcd",
            Self::ProxyEtcdSlow => "slow link from a proxy to etcd",
            Self::EtcdServerKilled => "etcd server killed",
            Self::EtcdQuorumLost => "etcd without quorum",
            Self::EtcdLeaderMoved => "etcd leader moved",
            Self::Switchover => "switchover",
            Self::PromotedByHand => "pg_promote by hand",
            Self::ProxyKilled => "proxy killed",
            Self::ProxyFrozen => "proxy frozen",
            Self::ProxyReloaded => "proxy reloaded",
            Self::ProxyReplaced => "proxy replaced",
        }
    }

    /// The shortest and the longest duration, in seconds. Those that are not undone by themselves reach beyond the leader
    /// key's 20 seconds.
    fn lasts(self) -> (u64, u64) {
        match self {
            Self::PostgresKilled
            | Self::EtcdLeaderMoved
            | Self::Switchover
            | Self::ProxyReloaded
            | Self::ProxyReplaced => (0, 0),
            Self::ProxyKilled => (0, 8),
            Self::ConnectionsRefused | Self::PromotedByHand => (3, 15),
            Self::LinkSlow | Self::ProxyEtcdSlow | Self::EtcdServerKilled => (5, 30),
            Self::PostgresFrozen
            | Self::PatroniKilled
            | Self::PatroniFrozen
            | Self::MemberKilled
            | Self::MemberFrozen
            | Self::MemberWithoutEtcd
            | Self::MemberIsolated
            | Self::ReplicationStopped
            | Self::ProxyWithoutEtcd
            | Self::ProxyRefusedByEtcd
            | Self::EtcdQuorumLost
            | Self::ProxyFrozen => (2, 40),
        }
    }

    fn target(self, rng: &mut Rng) -> Target {
        // The leader more often: that is where faults matter.
        let leader = rng.u8(..4) > 0;
        let number = rng.usize(..6);
        match self {
            Self::PostgresKilled
            | Self::PostgresFrozen
            | Self::PatroniKilled
            | Self::PatroniFrozen
            | Self::MemberKilled
            | Self::MemberFrozen
            | Self::MemberWithoutEtcd
            | Self::MemberIsolated
            | Self::ConnectionsRefused
            | Self::LinkSlow => {
                if leader {
                    Target::Leader
                } else {
                    Target::Replica
                }
            }
            Self::ReplicationStopped | Self::PromotedByHand => Target::Replica,
            Self::ProxyWithoutEtcd
            | Self::ProxyRefusedByEtcd
            | Self::ProxyEtcdSlow
            | Self::ProxyKilled
            | Self::ProxyFrozen
            | Self::ProxyReloaded
            | Self::ProxyReplaced => Target::Proxy(number % 2),
            Self::EtcdServerKilled => Target::Etcd(number % 3),
            Self::EtcdQuorumLost | Self::EtcdLeaderMoved | Self::Switchover => Target::Cluster,
        }
    }

    fn part(self, target: Target) -> Part {
        let proxy = match target {
            Target::Proxy(number) => number,
            Target::Leader | Target::Replica | Target::Etcd(_) | Target::Cluster => 0,
        };
        match self {
            Self::PostgresKilled
            | Self::PostgresFrozen
            | Self::PatroniKilled
            | Self::PatroniFrozen
            | Self::MemberKilled
            | Self::MemberFrozen
            | Self::Switchover
            | Self::PromotedByHand => Part::Processes,
            Self::MemberWithoutEtcd
            | Self::MemberIsolated
            | Self::ConnectionsRefused
            | Self::LinkSlow
            | Self::ReplicationStopped => Part::Links,
            Self::ProxyWithoutEtcd | Self::ProxyRefusedByEtcd | Self::ProxyEtcdSlow => {
                Part::ProxyLinks(proxy)
            }
            Self::EtcdServerKilled | Self::EtcdQuorumLost | Self::EtcdLeaderMoved => Part::Etcd,
            Self::ProxyKilled | Self::ProxyFrozen | Self::ProxyReloaded | Self::ProxyReplaced => {
                Part::Proxy(proxy)
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("leader"),
            Self::Replica => f.write_str("replica"),
            Self::Proxy(number) => write!(f, "proxy-{}", number + 1),
            Self::Etcd(number) => write!(f, "etcd{}", number + 1),
            Self::Cluster => f.write_str("cluster"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begin, end) = (self.begin.as_secs_f64(), self.end.as_secs_f64());
        write!(f, "{begin:8.3} {end:8.3} {}: {}", self.kind.name(), self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_seed_is_a_schedule_and_a_longer_run_begins_with_the_same_faults() {
        let long = Schedule::new(7, HOUR, &Kind::ALL);
        assert_eq!(long, Schedule::new(7, HOUR, &Kind::ALL));
        assert_ne!(long.faults, Schedule::new(8, HOUR, &Kind::ALL).faults);
        let short = Schedule::new(7, HOUR / 60, &Kind::ALL);
        // The last ones of the short run may be those that had room when a longer one did not fit.
        let same = short.faults.iter().zip(&long.faults).take_while(|(one, other)| one == other).count();
        assert!(same >= 2, "{:?}", short.faults);
    }

    #[test]
    fn every_kind_strikes_within_an_hour_and_every_fault_ends_within_the_run() {
        let schedule = Schedule::new(1, HOUR, &Kind::ALL);
        for kind in Kind::ALL {
            assert!(schedule.faults.iter().any(|fault| fault.kind == kind), "{}", kind.name());
        }
        assert!(schedule.faults.iter().all(|fault| fault.begin <= fault.end && fault.end < HOUR));
    }

    #[test]
    fn faults_of_the_same_part_do_not_overlap_and_others_do() {
        let faults = Schedule::new(3, HOUR, &Kind::ALL).faults;
        let overlap = |one: &Fault, other: &Fault| one.begin <= other.end && other.begin <= one.end;
        let mut overlapping = 0;
        for (number, one) in faults.iter().enumerate() {
            for other in faults.iter().skip(number + 1).filter(|other| overlap(one, other)) {
                assert_ne!(one.kind.part(one.target), other.kind.part(other.target), "{one}, {other}");
                overlapping += 1;
            }
        }
        assert!(overlapping > 50, "{overlapping}");
    }
}
