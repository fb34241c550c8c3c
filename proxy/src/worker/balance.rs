//! Balance: which worker serves a client. The kernel gives it to one of them by a hash of its address, which leaves few
//! sessions unevenly on the workers; whoever is given one while another has clearly fewer hands it over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::sync::{Notify, mpsc};
use tracing::warn;

use super::Order;
use super::acceptors::Client;
use crate::tally::RouteKind;

/// A worker hands over when it has more sessions than another by more than one in so many: a difference of one among
/// few, but never for its own sake among many.
const TOLERANCE: usize = 4;

/// All workers, in their order.
pub(super) type Team = Arc<[Colleague]>;

/// How many clients a worker has, those on their way to it included.
#[derive(Clone, Debug, Default)]
pub(super) struct Load(Arc<Seats>);

#[derive(Debug, Default)]
struct Seats {
    taken: AtomicUsize,
    emptied: Notify,
}

impl Load {
    pub(super) fn count(&self) -> usize {
        self.0.taken.load(SeqCst)
    }

    /// Resolves once there is no client.
    pub(super) async fn gone(&self) {
        loop {
            // Made before the look, so that the last one cannot leave between the two.
            let emptied = self.0.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn seat(&self) -> Seat {
        self.0.taken.fetch_add(1, SeqCst);
        Seat(Arc::clone(&self.0))
    }
}

/// One client of a worker, until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Seats>);

impl Drop for Seat {
    fn drop(&mut self) {
        if self.0.taken.fetch_sub(1, SeqCst) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

/// A worker as the others see it.
#[derive(Debug)]
pub(super) struct Colleague {
    load: Load,
    /// Weak, because a worker ends when nobody can give it orders any more.
    orders: mpsc::WeakSender<Order>,
}

impl Colleague {
    pub(super) fn new(orders: mpsc::WeakSender<Order>) -> Self {
        Self { load: Load::default(), orders }
    }

    pub(super) fn load(&self) -> Load {
        self.load.clone()
    }
}

/// A client on its way from the worker that accepted it to the one that will serve it.
#[derive(Debug)]
pub(super) struct HandedOver {
    pub(super) route: RouteKind,
    pub(super) socket: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) seat: Seat,
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

    /// A seat for a client that this worker accepted, with the client; nothing when another worker serves it.
    pub(super) fn seat(&self, route: RouteKind, client: Client) -> Option<(Seat, Client)> {
        // One whose queue is full, or who is gone, is not less busy.
        let order = |other: &Colleague| other.orders.upgrade()?.try_reserve_owned().ok();
        let Some((other, order)) = self.less_busy().and_then(|other| Some((other, order(other)?))) else {
            return Some((self.load().seat(), client));
        };
        let (client, peer) = client;
        match client.into_std() {
            Ok(socket) => {
                let seat = other.load.seat();
                order.send(Order::Serve(HandedOver { route, socket, peer, seat }));
            }
            Err(error) => warn!(%peer, %error, "cannot hand a client over"),
        }
        None
    }

    /// The worker with the fewest sessions, if they are clearly fewer than this one has.
    fn less_busy(&self) -> Option<&Colleague> {
        let own = self.load().count();
        let other = self.team.iter().min_by_key(|other| other.load.count())?;
        let count = other.load.count();
        (own > count + count / TOLERANCE).then_some(other)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    type Inboxes = Vec<(mpsc::Sender<Order>, mpsc::Receiver<Order>)>;

    fn team(workers: usize, queue: usize) -> (Team, Inboxes) {
        let inboxes: Inboxes = (0..workers).map(|_| mpsc::channel(queue)).collect();
        (inboxes.iter().map(|(orders, _)| Colleague::new(orders.downgrade())).collect(), inboxes)
    }

    async fn client() -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_ours, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        accepted.unwrap()
    }

    #[tokio::test]
    async fn few_sessions_are_even_wherever_they_arrive_and_ended_ones_count_no_more() {
        let (team, mut inboxes) = team(2, 8);
        let place = Place::new(0, Arc::clone(&team));
        let mut seats = Vec::new();
        for _ in 0..4 {
            seats.extend(place.seat(RouteKind::Write, client().await).map(|(seat, _)| seat));
        }
        let counts = |team: &Team| team.iter().map(|one| one.load.count()).collect::<Vec<_>>();
        assert_eq!((seats.len(), counts(&team)), (2, vec![2, 2]));
        let Ok(Order::Serve(handed_over)) = inboxes[1].1.try_recv() else { panic!("nobody was handed over") };
        drop(handed_over);
        seats.clear();
        assert_eq!(counts(&team), [0, 1]);
        assert!(place.seat(RouteKind::Write, client().await).is_some(), "the other one has more");
    }

    #[tokio::test]
    async fn a_worker_learns_when_its_last_client_is_gone() {
        let load = Load::default();
        load.gone().await;
        let seats = [load.seat(), load.seat()];
        let gone = load.gone();
        let leaving = async {
            for seat in seats {
                tokio::task::yield_now().await;
                drop(seat);
            }
        };
        tokio::join!(gone, leaving);
        assert_eq!(load.count(), 0);
    }

    #[tokio::test]
    async fn many_sessions_stay_where_they_arrive_unless_it_is_clearly_uneven() {
        let (team, _inboxes) = team(2, 1);
        let place = Place::new(0, Arc::clone(&team));
        let seats = |index: usize, count: usize| -> Vec<Seat> {
            (0..count).map(|_| team[index].load.seat()).collect()
        };
        let _there = (seats(0, 120), seats(1, 100));
        assert!(place.less_busy().is_none());
        let _more = seats(0, 6);
        assert!(place.less_busy().is_some());
    }

    #[tokio::test]
    async fn nobody_is_handed_to_a_worker_that_is_gone_or_has_too_much_to_do() {
        let (team, mut inboxes) = team(2, 1);
        let place = Place::new(0, Arc::clone(&team));
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.extend(place.seat(RouteKind::Write, client().await));
        }
        assert_eq!(kept.len(), 2, "one is in the other's queue");
        let (orders, inbox) = inboxes.remove(1);
        drop(inbox);
        assert!(place.seat(RouteKind::Write, client().await).is_some(), "it has panicked");
        drop(orders);
        assert!(place.seat(RouteKind::Write, client().await).is_some(), "it is being stopped");
    }
}
