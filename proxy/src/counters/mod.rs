//! Counters of sessions and probes: by route, by member, by epoch and by worker.

mod admin;
mod epoch;
mod member;
mod route;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pg_leader_proxy_core::{Impact, MemberName, Moment, RouteEpoch};

pub use self::admin::AdminRefusal;
pub use self::epoch::EpochCounters;
pub use self::member::{MemberCounters, MemberRouteCounters, ProbeCounters, ProbedOver};
pub use self::route::{RejectionKind, RouteCounters, TerminationKind};
pub use self::worker::WorkerBytes;
use crate::logging::LineBudget;
use crate::route::RouteKind;

/// How many epochs are remembered: one for each failover report, and the present one.
const EPOCHS_KEPT: usize = 33;

/// A counter, or a gauge if it is also decremented or set.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Subtracts one.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The present value.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.since_boot().as_nanos()).unwrap_or(u64::MAX)
}

fn moment(nanos: u64) -> Option<Moment> {
    (nanos > 0).then(|| Moment::from_boot(Duration::from_nanos(nanos)))
}

/// The reloads of the configuration.
#[derive(Debug, Default)]
pub struct Reloads {
    /// Those that were applied.
    pub applied: Counter,
    /// Those that were refused, because the configuration is wrong or needs a restart.
    pub refused: Counter,
    last_refused: AtomicBool,
    applied_at: AtomicU64,
}

impl Reloads {
    /// Records a reload.
    pub fn record(&self, applied: bool, now: Moment) {
        self.last_refused.store(!applied, Relaxed);
        if applied {
            self.applied.increment();
            self.applied_at.store(nanos(now), Relaxed);
        } else {
            self.refused.increment();
        }
    }

    /// Whether the last reload was refused, so that the configuration in force is not the one that is written.
    pub fn last_was_refused(&self) -> bool {
        self.last_refused.load(Relaxed)
    }

    /// When the last reload was applied.
    pub fn applied_at(&self) -> Option<Moment> {
        moment(self.applied_at.load(Relaxed))
    }
}

/// All counters.
#[derive(Debug, Default)]
pub struct Counters {
    /// The reloads of the configuration.
    pub reloads: Reloads,
    /// How many sessions there may be at once: the limit in force.
    pub max_sessions: Counter,
    /// Clients that get an error now because they were rejected before their first packet: they have no session.
    pub rejecting: Counter,
    /// What the session log leaves out.
    pub session_log: LineBudget,
    write: RouteCounters,
    read: RouteCounters,
    admin_refusals: [Counter; AdminRefusal::ALL.len()],
    epochs: Mutex<VecDeque<(RouteEpoch, Arc<EpochCounters>)>>,
    members: Mutex<BTreeMap<MemberName, Arc<MemberCounters>>>,
    workers: Mutex<Vec<Arc<WorkerBytes>>>,
    sessions_numbered: AtomicU64,
}

impl Counters {
    /// The counters of one route.
    pub const fn route(&self, kind: RouteKind) -> &RouteCounters {
        match kind {
            RouteKind::Write => &self.write,
            RouteKind::Read => &self.read,
        }
    }

    /// What the admin address refused for this reason.
    pub const fn admin_refusals(&self, refusal: AdminRefusal) -> &Counter {
        &self.admin_refusals[refusal as usize]
    }

    /// Numbers the sessions from here on, so that no number of an earlier process is given again.
    pub fn number_sessions_after(&self, number: u64) {
        self.sessions_numbered.store(number, Relaxed);
    }

    /// The number of the next session.
    pub fn number_session(&self) -> u64 {
        self.sessions_numbered.fetch_add(1, Relaxed) + 1
    }

    /// Open sessions now, on both routes.
    pub fn open_sessions(&self) -> u64 {
        self.write.open.value() + self.read.open.value()
    }

    /// The counters of a member, which begin at zero for one that is not known yet.
    pub fn member(&self, name: &MemberName) -> Arc<MemberCounters> {
        let mut members = self.members();
        match members.get(name) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(members.entry(name.clone()).or_default()),
        }
    }

    /// Forgets every member that is not known any more.
    pub fn retain_members(&self, is_known: impl Fn(&MemberName) -> bool) {
        self.members().retain(|name, _| is_known(name));
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<MemberName, Arc<MemberCounters>>> {
        // A panic under the lock cannot leave the map inconsistent.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the counters of a worker.
    pub fn add_worker(&self) -> Arc<WorkerBytes> {
        let bytes = Arc::new(WorkerBytes::default());
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&bytes));
        bytes
    }

    /// How many bytes the workers have relayed on `route`: from clients to servers, and from servers to clients.
    pub fn bytes(&self, route: RouteKind) -> [u64; 2] {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_each = workers.iter().map(|worker| worker.bytes(route));
        of_each.fold([0, 0], |[to_server, to_client], worker| [to_server + worker[0], to_client + worker[1]])
    }

    /// Adds counters for a new epoch of the write route.
    pub fn begin_epoch(&self, epoch: RouteEpoch) -> Arc<EpochCounters> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if epochs.len() == EPOCHS_KEPT {
            epochs.pop_front();
        }
        let counters = Arc::new(EpochCounters::default());
        epochs.push_back((epoch, Arc::clone(&counters)));
        counters
    }

    /// The counters of an epoch, if it is still remembered.
    pub fn epoch(&self, epoch: RouteEpoch) -> Option<Arc<EpochCounters>> {
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.iter().find(|(known, _)| *known == epoch).map(|(_, counters)| Arc::clone(counters))
    }

    /// The impact of changing from one epoch of the write route to a later one: the sessions terminated since `from`
    /// began, and the clients that waited for the epochs after it, up to `to`. Forgotten epochs count as zero.
    pub fn impact(&self, from: RouteEpoch, to: RouteEpoch) -> Impact {
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = epochs.iter().filter(|(epoch, _)| (from..to).contains(epoch));
        let begun = epochs.iter().filter(|(epoch, _)| from < *epoch && *epoch <= to);
        Impact {
            terminated: ended.map(|(_, counters)| counters.terminated()).sum(),
            held: begun.map(|(_, counters)| counters.waited.value()).sum(),
        }
    }
}
