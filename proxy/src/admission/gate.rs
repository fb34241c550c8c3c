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
    next_number: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Permit>>,
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
pub struct Permit(Option<Gate>);

impl Drop for Permit {
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
pub struct Ticket {
    gate: Gate,
    number: u64,
    /// `None` once it has told that this client may enter, or that the gate was closed for good.
    permit: Option<oneshot::Receiver<Permit>>,
}

impl Ticket {
    /// Enters if the gate has let this client in already.
    pub fn try_permit(&mut self) -> Option<Permit> {
        match self.permit.as_mut()?.try_recv() {
            Err(TryRecvError::Empty) => None,
            told => {
                self.permit = None;
                told.ok()
            }
        }
    }

    /// Waits for the gate to let this client in; `None` when it was closed for good. Can be called again after it was
    /// dropped half way.
    pub async fn permit(&mut self) -> Option<Permit> {
        let told = self.permit.as_mut()?.await;
        self.permit = None;
        told.ok()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // The sender goes after the lock: an entry that was sent but not received gives itself back on drop.
        let left = self.gate.state().waiting.remove(&self.number);
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
            next_number: 0,
            waiting: BTreeMap::new(),
        })))
    }

    /// Takes a place at the end of the queue.
    ///
    /// # Errors
    /// [`TooManyHeld`] when the queue is full.
    pub fn enqueue(&self) -> Result<Ticket, TooManyHeld> {
        let mut state = self.state();
        if state.waiting.len() >= state.limits.max_held && !state.lets_in() {
            return Err(TooManyHeld);
        }
        let (sender, permit) = oneshot::channel();
        let number = state.next_number;
        state.next_number += 1;
        if !state.closed_for_good {
            state.waiting.insert(number, sender);
            state.admit(self);
        }
        drop(state);
        Ok(Ticket { gate: self.clone(), number, permit: Some(permit) })
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
            if let Err(mut unclaimed) = next.send(Permit(Some(gate.clone()))) {
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
        let mut tickets: Vec<Ticket> = (0..4).map(|_| gate.enqueue().unwrap()).collect();
        assert!(tickets.iter_mut().all(|ticket| ticket.try_permit().is_none()), "the gate is closed");

        gate.set_open(true);
        let first = tickets[0].try_permit().unwrap();
        let _second = tickets[1].try_permit().unwrap();
        assert!(tickets[2].try_permit().is_none(), "two are connecting");

        drop(first);
        assert!(tickets[2].try_permit().is_some());
        assert!(tickets[3].try_permit().is_some(), "the third gave its entry back");
    }

    #[test]
    fn a_gate_that_has_just_opened_starts_slowly() {
        let gate = gate(100, 100);
        let mut tickets: Vec<Ticket> = (0..20).map(|_| gate.enqueue().unwrap()).collect();
        let mut enter = || tickets.iter_mut().filter_map(Ticket::try_permit).collect::<Vec<Permit>>();
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
        let gone = gate.enqueue().unwrap();
        let mut next = gate.enqueue().unwrap();
        drop(gone);
        gate.set_open(true);
        assert!(next.try_permit().is_some());
    }

    #[test]
    fn an_entry_nobody_received_is_given_back() {
        let gate = gate(10, 1);
        let unlucky = gate.enqueue().unwrap();
        let mut next = gate.enqueue().unwrap();
        gate.set_open(true);
        drop(unlucky);
        assert!(next.try_permit().is_some());
    }

    #[test]
    fn the_queue_is_bounded_but_an_open_gate_is_not() {
        let gate = gate(1, 1);
        let _held = gate.enqueue().unwrap();
        assert_eq!(gate.enqueue().err(), Some(TooManyHeld));
    }

    #[test]
    fn a_gate_without_a_queue_still_lets_in() {
        let gate = gate(0, 1);
        gate.set_open(true);
        assert!(gate.enqueue().unwrap().try_permit().is_some());
    }

    #[tokio::test]
    async fn a_gate_closed_for_good_sends_everybody_away() {
        let gate = gate(2, 2);
        let mut waiting = gate.enqueue().unwrap();
        gate.close_for_good();
        assert!(waiting.permit().await.is_none());
        let mut late = gate.enqueue().unwrap();
        assert!(late.try_permit().is_none());
        assert!(late.permit().await.is_none(), "it can be asked again");
    }
}
