//! The gate: clients wait here for a server, and enter in the order of their arrival, a bounded number at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot::{self, error::TryRecvError};

/// How many clients connect at once when a gate has just been opened.
const FIRST_CONNECTING: usize = 2;

/// The gate of one route.
///
/// It is open while the route admits new sessions. Even then only so many clients connect to a server at once, so
/// that a new leader is not stampeded by everybody who waited for it: a few at first, and one more with each client
/// that got in, up to the limit. So the first who waited is not slowed down by the hundredth.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    open: bool,
    closed_for_good: bool,
    limits: GateLimits,
    connecting: usize,
    /// How many may be connecting by now.
    window: usize,
    arrivals: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Entry>>,
}

/// The bounds of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// How many clients may wait.
    pub max_held: usize,
    /// How many clients may be connecting to a server.
    pub max_concurrent_logins: usize,
}

/// As many clients wait as are allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyHeld;

/// The right to connect to a server and log in; dropping it lets the next client in.
#[derive(Debug)]
pub struct Entry(Option<Gate>);

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(gate) = self.0.take() {
            let mut state = gate.state();
            state.connecting -= 1;
            state.window = state.window.saturating_add(1).min(state.limits.max_concurrent_logins);
            state.admit(&gate);
        }
    }
}

/// A place in the queue, given up when dropped.
#[derive(Debug)]
pub struct Place {
    gate: Gate,
    arrival: u64,
    /// `None` once it has told that this client may enter, or that the gate was closed for good.
    entry: Option<oneshot::Receiver<Entry>>,
}

impl Place {
    /// Enters if the gate has let this client in already.
    pub fn entry_now(&mut self) -> Option<Entry> {
        match self.entry.as_mut()?.try_recv() {
            Err(TryRecvError::Empty) => None,
            told => {
                self.entry = None;
                told.ok()
            }
        }
    }

    /// Waits for the gate to let this client in; `None` when it was closed for good. Can be called again after it was
    /// dropped half way.
    pub async fn entry(&mut self) -> Option<Entry> {
        let told = self.entry.as_mut()?.await;
        self.entry = None;
        told.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The sender goes after the lock: an entry that was sent but not received gives itself back on drop.
        let left = self.gate.state().waiting.remove(&self.arrival);
        drop(left);
    }
}

impl Gate {
    /// A gate that is not open yet.
    pub fn new(limits: GateLimits) -> Self {
        Self(Arc::new(Mutex::new(State {
            open: false,
            closed_for_good: false,
            limits,
            connecting: 0,
            window: FIRST_CONNECTING,
            arrivals: 0,
            waiting: BTreeMap::new(),
        })))
    }

    /// Takes a place at the end of the queue.
    ///
    /// # Errors
    /// [`TooManyHeld`] when the queue is full.
    pub fn arrive(&self) -> Result<Place, TooManyHeld> {
        let mut state = self.state();
        if state.waiting.len() >= state.limits.max_held && !state.lets_in() {
            return Err(TooManyHeld);
        }
        let (sender, entry) = oneshot::channel();
        let arrival = state.arrivals;
        state.arrivals += 1;
        if !state.closed_for_good {
            state.waiting.insert(arrival, sender);
            state.admit(self);
        }
        drop(state);
        Ok(Place { gate: self.clone(), arrival, entry: Some(entry) })
    }

    /// Opens the gate, or closes it until it is opened again.
    pub fn set_open(&self, open: bool) {
        let mut state = self.state();
        if open && !state.open {
            state.window = FIRST_CONNECTING;
        }
        state.open = open;
        state.admit(self);
    }

    /// Changes the bounds; whoever waits already keeps the place.
    pub fn set_limits(&self, limits: GateLimits) {
        let mut state = self.state();
        state.limits = limits;
        state.admit(self);
    }

    /// Sends everybody away, now and from now on.
    pub fn close_for_good(&self) {
        let waiting = {
            let mut state = self.state();
            state.closed_for_good = true;
            state.open = false;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that runs under the lock can leave the state half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn lets_in(&self) -> bool {
        self.open && self.connecting < self.limits.max_concurrent_logins && self.connecting < self.window
    }

    fn admit(&mut self, gate: &Gate) {
        while self.lets_in() {
            let Some((_, next)) = self.waiting.pop_first() else { return };
            self.connecting += 1;
            if let Err(mut unclaimed) = next.send(Entry(Some(gate.clone()))) {
                // Its client is gone. The lock is held, so the entry must not give itself back.
                unclaimed.0 = None;
                self.connecting -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(max_held: usize, max_concurrent_logins: usize) -> Gate {
        Gate::new(GateLimits { max_held, max_concurrent_logins })
    }

    #[test]
    fn clients_enter_in_the_order_of_arrival_a_few_at_a_time() {
        let gate = gate(10, 2);
        let mut places: Vec<Place> = (0..4).map(|_| gate.arrive().unwrap()).collect();
        assert!(places.iter_mut().all(|place| place.entry_now().is_none()), "the gate is closed");

        gate.set_open(true);
        let first = places[0].entry_now().unwrap();
        let _second = places[1].entry_now().unwrap();
        assert!(places[2].entry_now().is_none(), "two are connecting");

        drop(first);
        assert!(places[2].entry_now().is_some());
        assert!(places[3].entry_now().is_some(), "the third gave its entry back");
    }

    #[test]
    fn a_gate_that_has_just_opened_starts_slowly() {
        let gate = gate(100, 100);
        let mut places: Vec<Place> = (0..20).map(|_| gate.arrive().unwrap()).collect();
        let mut enter = || places.iter_mut().filter_map(Place::entry_now).collect::<Vec<Entry>>();
        gate.set_open(true);
        let first = enter();
        assert_eq!(first.len(), FIRST_CONNECTING);
        drop(first);
        let second = enter();
        assert_eq!(second.len(), 2 * FIRST_CONNECTING, "one more for each that got in");
    }

    #[test]
    fn who_leaves_the_queue_is_passed_over() {
        let gate = gate(10, 1);
        let gone = gate.arrive().unwrap();
        let mut next = gate.arrive().unwrap();
        drop(gone);
        gate.set_open(true);
        assert!(next.entry_now().is_some());
    }

    #[test]
    fn an_entry_nobody_received_is_given_back() {
        let gate = gate(10, 1);
        let unlucky = gate.arrive().unwrap();
        let mut next = gate.arrive().unwrap();
        gate.set_open(true);
        drop(unlucky);
        assert!(next.entry_now().is_some());
    }

    #[test]
    fn the_queue_is_bounded_but_an_open_gate_is_not() {
        let gate = gate(1, 1);
        let _held = gate.arrive().unwrap();
        assert_eq!(gate.arrive().err(), Some(TooManyHeld));
    }

    #[test]
    fn a_gate_without_a_queue_still_lets_in() {
        let gate = gate(0, 1);
        gate.set_open(true);
        assert!(gate.arrive().unwrap().entry_now().is_some());
    }

    #[tokio::test]
    async fn a_gate_closed_for_good_sends_everybody_away() {
        let gate = gate(2, 2);
        let mut waiting = gate.arrive().unwrap();
        gate.close_for_good();
        assert!(waiting.entry().await.is_none());
        let mut late = gate.arrive().unwrap();
        assert!(late.entry_now().is_none());
        assert!(late.entry().await.is_none(), "it can be asked again");
    }
}
