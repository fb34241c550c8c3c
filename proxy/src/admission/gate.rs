//! The gate: the queue in which clients wait for a server, and which limits how many log in at once.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::sync::{Mutex, MutexGuard};

/// How many clients may log in at once when a gate has just opened.
const FIRST_CONNECTING: usize = 2;

/// The gate of one route.
///
/// It is open while the route takes new sessions. Even then it limits how many clients a server works for at once, so
/// that the clients that waited for a new leader do not overload it: two at first, and one more with each client that a
/// server has answered, up to the limit. A client whose turn it is to speak does not count. Clients get permits in the
/// order in which they joined the queue.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    open: bool,
    closed_for_good: bool,
    limits: GateLimits,
    /// How many clients a server is working for.
    connecting: usize,
    /// How many that may be by now; at most `max_concurrent_logins`.
    window: usize,
    next_number: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Permit>>,
}

/// The limits of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// How many clients may wait.
    pub max_held: usize,
    /// How many clients may be connecting to a server, or waiting for its answer to a step of their login.
    pub max_concurrent_logins: usize,
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyHeld;

/// The right to connect to a server and log in. Dropping it lets the next client in.
///
/// It counts towards the limit only while a server works for the client. So a client that has given up, but left its
/// connection open, keeps nobody waiting.
#[derive(Debug)]
pub struct Permit {
    gate: Gate,
    counts: bool,
    answered: bool,
}

impl Permit {
    const fn new(gate: Gate) -> Self {
        Self { gate, counts: true, answered: false }
    }

    /// The server has answered and waits for the client: the permit does not count until [`resume`](Self::resume).
    pub fn pause(&mut self) {
        if !std::mem::take(&mut self.counts) {
            return;
        }
        let mut state = self.gate.state();
        state.connecting -= 1;
        if !std::mem::replace(&mut self.answered, true) {
            state.window = state.window.saturating_add(1).min(state.limits.max_concurrent_logins);
        }
        state.admit(&self.gate);
    }

    /// The client has spoken and waits for the server. The permit counts again at once, even beyond the limit: the
    /// server is already at work.
    pub fn resume(&mut self) {
        if !std::mem::replace(&mut self.counts, true) {
            self.gate.state().connecting += 1;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.counts {
            let mut state = self.gate.state();
            state.connecting -= 1;
            state.admit(&self.gate);
        }
    }
}

/// A client's place in the queue, by the order of arrival. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Ticket {
    gate: Gate,
    number: u64,
    /// `None` once it has delivered the permit, or the gate was closed for good.
    permit: Option<oneshot::Receiver<Permit>>,
}

impl Ticket {
    /// The permit, if the gate has already issued it.
    pub fn try_permit(&mut self) -> Option<Permit> {
        match self.permit.as_mut()?.try_recv() {
            Err(TryRecvError::Empty) => None,
            result => {
                self.permit = None;
                result.ok()
            }
        }
    }

    /// Waits for the permit; `None` if the gate was closed for good. It is cancel safe.
    pub async fn permit(&mut self) -> Option<Permit> {
        let result = self.permit.as_mut()?.await;
        self.permit = None;
        result.ok()
    }

    /// Joins the queue again at the same place, because the permit did not lead to a server.
    pub fn rejoin(&mut self) {
        let (sender, permit) = oneshot::channel();
        self.permit = Some(permit);
        let mut state = self.gate.state();
        if !state.closed_for_good {
            state.waiting.insert(self.number, sender);
            state.admit(&self.gate);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // The sender is dropped after the lock is released: a permit that was sent but not received returns itself.
        let left = self.gate.state().waiting.remove(&self.number);
        drop(left);
    }
}

impl Gate {
    /// A gate that is closed.
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

    /// Joins the end of the queue.
    ///
    /// # Errors
    /// [`TooManyHeld`] if the queue is full.
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

    /// Opens or closes the gate.
    pub fn set_open(&self, open: bool) {
        let mut state = self.state();
        if open && !state.open {
            state.window = FIRST_CONNECTING;
        }
        state.open = open;
        state.admit(self);
    }

    /// Changes the limits. Clients that already wait stay in the queue.
    pub fn set_limits(&self, limits: GateLimits) {
        let mut state = self.state();
        state.limits = limits;
        state.admit(self);
    }

    /// Closes the gate for good: all clients, waiting and future ones, get no permit.
    pub fn close_for_good(&self) {
        let waiting = {
            let mut state = self.state();
            state.closed_for_good = true;
            state.open = false;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }

    /// How many clients a server is working for, and how many wait.
    #[cfg(test)]
    #[cfg(feature = "races")]
    pub(crate) fn connecting_and_waiting(&self) -> (usize, usize) {
        let state = self.state();
        (state.connecting, state.waiting.len())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock cannot leave the state inconsistent.
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
            if let Err(mut unclaimed) = next.send(Permit::new(gate.clone())) {
                // The client is gone. The lock is held, so the permit must not return itself.
                unclaimed.counts = false;
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
    fn clients_get_permits_in_the_order_of_the_queue_a_few_at_a_time() {
        let gate = gate(10, 2);
        let mut tickets: Vec<Ticket> = (0..4).map(|_| gate.enqueue().unwrap()).collect();
        assert!(tickets.iter_mut().all(|ticket| ticket.try_permit().is_none()), "the gate is closed");

        gate.set_open(true);
        let first = tickets[0].try_permit().unwrap();
        let _second = tickets[1].try_permit().unwrap();
        assert!(tickets[2].try_permit().is_none(), "two are connecting");

        drop(first);
        assert!(tickets[2].try_permit().is_some());
        assert!(tickets[3].try_permit().is_some(), "the third returned its permit");
    }

    #[test]
    fn a_gate_that_has_just_opened_starts_with_few_logins() {
        let gate = gate(100, 100);
        let mut tickets: Vec<Ticket> = (0..20).map(|_| gate.enqueue().unwrap()).collect();
        let mut enter = || tickets.iter_mut().filter_map(Ticket::try_permit).collect::<Vec<Permit>>();
        gate.set_open(true);
        let mut first = enter();
        assert_eq!(first.len(), FIRST_CONNECTING);
        first.iter_mut().for_each(Permit::pause);
        drop(first);
        let second = enter();
        assert_eq!(second.len(), 2 * FIRST_CONNECTING, "one more for each that was answered");
        drop(second);
        assert_eq!(enter().len(), 2 * FIRST_CONNECTING, "no more for those that were not");
    }

    #[test]
    fn a_permit_counts_only_while_the_server_is_to_answer() {
        let gate = gate(10, 1);
        let mut tickets: Vec<Ticket> = (0..3).map(|_| gate.enqueue().unwrap()).collect();
        gate.set_open(true);
        let mut first = tickets[0].try_permit().unwrap();
        assert!(tickets[1].try_permit().is_none());
        first.pause();
        first.pause();
        let second = tickets[1].try_permit().unwrap();
        first.resume();
        first.resume();
        drop(second);
        assert!(tickets[2].try_permit().is_none(), "the server works for the first again");
        drop(first);
        assert!(tickets[2].try_permit().is_some());
    }

    #[test]
    fn a_client_whose_attempt_failed_keeps_its_place() {
        let gate = gate(1, 1);
        let mut first = gate.enqueue().unwrap();
        gate.set_open(true);
        let permit = first.try_permit().unwrap();
        let mut second = gate.enqueue().unwrap();
        gate.set_open(false);
        drop(permit);
        first.rejoin();
        gate.set_open(true);
        assert!(second.try_permit().is_none(), "it came later");
        drop(first.try_permit().unwrap());
        assert!(second.try_permit().is_some());
    }

    #[test]
    fn a_client_that_leaves_the_queue_is_skipped() {
        let gate = gate(10, 1);
        let gone = gate.enqueue().unwrap();
        let mut next = gate.enqueue().unwrap();
        drop(gone);
        gate.set_open(true);
        assert!(next.try_permit().is_some());
    }

    #[test]
    fn a_permit_that_was_not_received_is_returned() {
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
    fn a_gate_without_a_queue_still_issues_permits() {
        let gate = gate(0, 1);
        gate.set_open(true);
        assert!(gate.enqueue().unwrap().try_permit().is_some());
    }

    #[tokio::test]
    async fn a_gate_closed_for_good_issues_no_permit() {
        let gate = gate(2, 2);
        let mut waiting = gate.enqueue().unwrap();
        gate.close_for_good();
        assert!(waiting.permit().await.is_none());
        let mut late = gate.enqueue().unwrap();
        assert!(late.try_permit().is_none());
        assert!(late.permit().await.is_none(), "it can be called again");
        late.rejoin();
        assert!(late.permit().await.is_none());
    }
}
