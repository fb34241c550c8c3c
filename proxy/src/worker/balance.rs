//! Balance: which worker relays a session. One of them accepts all clients and brings them to a server, since a thread that
//! finds more to do at each look spends less on it. Of the sessions that have settled it hands over until all have equally many;
//! those that come and go in a moment stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Wake as _;

use tokio::sync::mpsc;

use super::{Bell, Order};
use crate::session::Session;

/// All workers, in their order.
pub(super) type Team = Arc<[Colleague]>;

/// How many clients a worker has, those on their way to it included.
#[derive(Clone, Debug, Default)]
pub(super) struct Load(Arc<AtomicUsize>);

impl Load {
    pub(super) fn count(&self) -> usize {
        self.0.load(SeqCst)
    }

    fn seat(&self) -> Seat {
        self.0.fetch_add(1, SeqCst);
        Seat(Arc::clone(&self.0))
    }
}

/// One client of a worker, until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A worker as the others see it.
#[derive(Debug)]
pub(super) struct Colleague {
    load: Load,
    /// Weak, because a worker ends when nobody can give it orders any more.
    orders: mpsc::WeakSender<Order>,
    bell: Arc<Bell>,
}

impl Colleague {
    pub(super) fn new(orders: mpsc::WeakSender<Order>, bell: Arc<Bell>) -> Self {
        Self { load: Load::default(), orders, bell }
    }

    pub(super) fn load(&self) -> Load {
        self.load.clone()
    }
}

/// A place for a session with a worker that has fewer.
#[derive(Debug)]
pub(super) struct Vacancy {
    seat: Seat,
    order: mpsc::OwnedPermit<Order>,
    bell: Arc<Bell>,
}

impl Vacancy {
    /// Fills it.
    pub(super) fn fill(self, mut session: Box<Session>) {
        session.change_seat(self.seat);
        self.order.send(Order::Relay(session));
        self.bell.wake_by_ref();
    }
}

/// A worker's place among the others.
#[derive(Debug)]
pub(super) struct Place {
    index: usize,
    team: Team,
}

impl Place {
    pub(super) const fn new(index: usize, team: Team) -> Self {
        Self { index, team }
    }

    pub(super) const fn index(&self) -> usize {
        self.index
    }

    /// The load of this worker.
    pub(super) fn load(&self) -> &Load {
        &self.team[self.index].load
    }

    /// A seat for a client that this worker has accepted.
    pub(super) fn seat(&self) -> Seat {
        self.load().seat()
    }

    /// A place with the worker that has the fewest sessions, if it would not have more than this one then.
    pub(super) fn vacancy(&self) -> Option<Vacancy> {
        let other = self.team.iter().min_by_key(|other| other.load.count())?;
        if self.load().count() <= other.load.count() + 1 {
            return None;
        }
        // One whose queue is full, or who is gone, is not less busy.
        let order = other.orders.upgrade()?.try_reserve_owned().ok()?;
        Some(Vacancy { seat: other.load.seat(), order, bell: Arc::clone(&other.bell) })
    }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Waker};

    use super::super::BELL;
    use super::*;

    type Inboxes = Vec<(mpsc::Sender<Order>, mpsc::Receiver<Order>)>;

    fn team(workers: usize, queue: usize) -> (Team, Inboxes) {
        let inboxes: Inboxes = (0..workers).map(|_| mpsc::channel(queue)).collect();
        let bell = || Arc::new(Bell(Waker::new(Poll::new().unwrap().registry(), BELL).unwrap()));
        (inboxes.iter().map(|(orders, _)| Colleague::new(orders.downgrade(), bell())).collect(), inboxes)
    }

    fn seats(place: &Place, count: usize) -> Vec<Seat> {
        (0..count).map(|_| place.seat()).collect()
    }

    #[test]
    fn sessions_become_even_wherever_they_arrived_and_ended_ones_count_no_more() {
        let (team, _inboxes) = team(2, 8);
        let places = [0, 1].map(|index| Place::new(index, Arc::clone(&team)));
        let mut here = seats(&places[0], 4);
        let mut there = Vec::new();
        while let Some(vacancy) = places[0].vacancy() {
            there.push(vacancy.seat);
            here.pop();
        }
        assert_eq!((here.len(), there.len(), places[1].load().count()), (2, 2, 2));
        here.clear();
        assert!(places[0].vacancy().is_none() && places[1].vacancy().is_some());
    }

    #[test]
    fn nobody_is_handed_to_a_worker_that_is_gone_or_has_too_much_to_do() {
        let (team, mut inboxes) = team(2, 1);
        let place = Place::new(0, Arc::clone(&team));
        let _here = seats(&place, 9);
        let on_its_way = place.vacancy();
        assert!(on_its_way.is_some() && place.vacancy().is_none(), "its queue is full");
        drop(on_its_way);
        let (orders, inbox) = inboxes.remove(1);
        drop(inbox);
        assert!(place.vacancy().is_none(), "it has panicked");
        drop(orders);
        assert!(place.vacancy().is_none(), "it is being stopped");
    }
}
