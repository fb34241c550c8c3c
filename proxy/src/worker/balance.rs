//! Balance: which worker relays a session.
//!
//! One worker accepts all clients and runs their start-ups, because a thread that finds more to do at each wake-up spends
//! less on each. It transfers settled sessions until all workers have equally many. Sessions that end within moments
//! never move.

use std::sync::Arc;
use std::task::Wake as _;

use tokio::sync::mpsc;

use super::{LoopWaker, WorkerCommand};
use crate::session::{End, Session};
use crate::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// All workers, ordered by index.
pub(super) type Pool = Arc<[Peer]>;

/// How many clients a worker has, including those that are being transferred to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Load(Arc<AtomicUsize>);

impl Load {
    pub(super) fn count(&self) -> usize {
        self.0.load(SeqCst)
    }

    fn add(&self) -> LoadGuard {
        self.0.fetch_add(1, SeqCst);
        LoadGuard(Arc::clone(&self.0))
    }
}

/// Counts one client of a worker until it is dropped.
#[derive(Debug)]
pub(super) struct LoadGuard(Arc<AtomicUsize>);

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A session that a worker relays, with the guard that counts it.
pub(super) struct RelayedSession {
    pub(super) session: Session,
    pub(super) load: LoadGuard,
}

impl RelayedSession {
    /// Ends the session, and stops counting it.
    pub(super) fn end(self, end: &End) {
        let Self { session, load } = self;
        session.end(end);
        drop(load);
    }
}

/// What the other workers know about a worker.
#[derive(Debug)]
pub(super) struct Peer {
    load: Load,
    /// Weak, because a worker ends when its command channel closes.
    commands: mpsc::WeakSender<WorkerCommand>,
    waker: Arc<LoopWaker>,
}

impl Peer {
    pub(super) fn new(commands: mpsc::WeakSender<WorkerCommand>, waker: Arc<LoopWaker>) -> Self {
        Self { load: Load::default(), commands, waker }
    }

    pub(super) fn load(&self) -> Load {
        self.load.clone()
    }

    /// Where its commands go; `None` once it is being stopped.
    pub(super) fn commands(&self) -> Option<mpsc::Sender<WorkerCommand>> {
        self.commands.upgrade()
    }

    /// Wakes it, because there is a command.
    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }
}

/// The permission to transfer one session to a certain worker.
#[derive(Debug)]
pub(super) struct TransferPermit {
    load: LoadGuard,
    command: mpsc::OwnedPermit<WorkerCommand>,
    waker: Arc<LoopWaker>,
}

impl TransferPermit {
    /// Transfers the session.
    pub(super) fn transfer(self, mut relayed: Box<RelayedSession>) {
        relayed.load = self.load;
        self.command.send(WorkerCommand::Relay(relayed));
        self.waker.wake_by_ref();
    }
}

/// A worker's own handle on the pool.
#[derive(Debug)]
pub(super) struct PoolHandle {
    index: usize,
    pool: Pool,
}

impl PoolHandle {
    pub(super) const fn new(index: usize, pool: Pool) -> Self {
        Self { index, pool }
    }

    /// The load of this worker.
    pub(super) fn load(&self) -> &Load {
        &self.pool[self.index].load
    }

    /// Counts a client that this worker has accepted.
    pub(super) fn add_client(&self) -> LoadGuard {
        self.load().add()
    }

    /// A permit for the worker with the fewest clients, if it would not have more than this one afterwards.
    pub(super) fn transfer_permit(&self) -> Option<TransferPermit> {
        let other = self.pool.iter().min_by_key(|other| other.load.count())?;
        if self.load().count() <= other.load.count() + 1 {
            return None;
        }
        // A worker with a full queue, or one that has exited, cannot take it.
        let command = other.commands.upgrade()?.try_reserve_owned().ok()?;
        Some(TransferPermit { load: other.load.add(), command, waker: Arc::clone(&other.waker) })
    }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Waker};

    use super::super::WAKE;
    use super::*;

    type Inboxes = Vec<(mpsc::Sender<WorkerCommand>, mpsc::Receiver<WorkerCommand>)>;

    fn pool(workers: usize, queue: usize) -> (Pool, Inboxes) {
        let inboxes: Inboxes = (0..workers).map(|_| mpsc::channel(queue)).collect();
        let waker = || Arc::new(LoopWaker(Waker::new(Poll::new().unwrap().registry(), WAKE).unwrap()));
        (inboxes.iter().map(|(commands, _)| Peer::new(commands.downgrade(), waker())).collect(), inboxes)
    }

    fn clients(handle: &PoolHandle, count: usize) -> Vec<LoadGuard> {
        (0..count).map(|_| handle.add_client()).collect()
    }

    /// The allocator has a size of 320 bytes and then one of 384.
    #[test]
    fn the_record_of_a_session_wastes_no_memory() {
        assert!(size_of::<RelayedSession>() <= 320, "{} bytes", size_of::<RelayedSession>());
    }

    #[test]
    fn transfers_make_the_workers_even_and_ended_sessions_no_longer_count() {
        let (pool, _inboxes) = pool(2, 8);
        let handles = [0, 1].map(|index| PoolHandle::new(index, Arc::clone(&pool)));
        let mut here = clients(&handles[0], 4);
        let mut there = Vec::new();
        while let Some(transfer_permit) = handles[0].transfer_permit() {
            there.push(transfer_permit.load);
            here.pop();
        }
        assert_eq!((here.len(), there.len(), handles[1].load().count()), (2, 2, 2));
        here.clear();
        assert!(handles[0].transfer_permit().is_none() && handles[1].transfer_permit().is_some());
    }

    #[test]
    fn nothing_is_transferred_to_a_worker_that_is_gone_or_whose_queue_is_full() {
        let (pool, mut inboxes) = pool(2, 1);
        let handle = PoolHandle::new(0, Arc::clone(&pool));
        let _here = clients(&handle, 9);
        let on_its_way = handle.transfer_permit();
        assert!(on_its_way.is_some() && handle.transfer_permit().is_none(), "its queue is full");
        drop(on_its_way);
        let (commands, inbox) = inboxes.remove(1);
        drop(inbox);
        assert!(handle.transfer_permit().is_none(), "it has panicked");
        drop(commands);
        assert!(handle.transfer_permit().is_none(), "it is being stopped");
    }
}
