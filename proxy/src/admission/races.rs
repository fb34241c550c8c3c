//! Races at the gate and at the end of a grant, in all orders in which their threads may run.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use pg_leader_proxy_core::Moment;
use shuttle::future::block_on;
use shuttle::thread;

use super::gate::GateLimits;
use super::{DisconnectReason, Gate, Grant};
use crate::races::explore;

const NOW: Moment = Moment::from_boot(Duration::from_secs(5));
const LATER: Moment = Moment::from_boot(Duration::from_secs(9));

/// Clients that a server works for at once; no model lets in more than this.
const AT_ONCE: usize = 2;

fn limits(max_concurrent_logins: usize) -> GateLimits {
    GateLimits { max_held: 8, max_concurrent_logins }
}

/// The gate opens, closes for a failover, and opens with other limits after a reload, while clients come, give up, fail and
/// come back. Whoever stays is let in, and every permit comes back.
#[test]
fn no_permit_is_lost_and_nobody_waits_for_ever() {
    explore(|| {
        let gate = Gate::new(limits(1));
        let working = Arc::new(AtomicUsize::new(0));
        let client = |behave: fn(&Gate, &AtomicUsize)| {
            let (gate, working) = (gate.clone(), Arc::clone(&working));
            thread::spawn(move || behave(&gate, &working))
        };
        let clients = [client(gives_up), client(fails_once), client(logs_in)];
        gate.set_open(true);
        gate.set_open(false);
        gate.set_limits(limits(AT_ONCE));
        gate.set_open(true);
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert_eq!(gate.connecting_and_waiting(), (0, 0));
    });
}

/// The gate is closed for good while clients come and come back: each of them is told.
#[test]
fn a_gate_that_closes_for_good_leaves_nobody_waiting() {
    explore(|| {
        let gate = Gate::new(limits(1));
        let clients = [(); 2].map(|()| {
            let gate = gate.clone();
            thread::spawn(move || {
                let mut ticket = gate.enqueue().unwrap();
                // Not for ever: in some orders the gate is closed only after the clients have ended.
                for _ in 0..3 {
                    let Some(permit) = block_on(ticket.permit()) else { return };
                    drop(permit);
                    ticket.rejoin();
                }
            })
        });
        gate.set_open(true);
        gate.close_for_good();
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert_eq!(gate.connecting_and_waiting(), (0, 0));
    });
}

fn gives_up(gate: &Gate, _: &AtomicUsize) {
    let mut ticket = gate.enqueue().unwrap();
    block_on(async {
        let mut permit = pin!(ticket.permit());
        poll_fn(|context| {
            drop(permit.as_mut().poll(context));
            Poll::Ready(())
        })
        .await;
    });
}

fn fails_once(gate: &Gate, working: &AtomicUsize) {
    let mut ticket = gate.enqueue().unwrap();
    drop(block_on(ticket.permit()).unwrap());
    ticket.rejoin();
    let _permit = block_on(ticket.permit()).unwrap();
    works(working);
}

fn logs_in(gate: &Gate, working: &AtomicUsize) {
    let mut ticket = gate.enqueue().unwrap();
    let mut permit = block_on(ticket.permit()).unwrap();
    works(working);
    permit.pause();
    permit.resume();
}

/// A server works for a client that has its first permit.
fn works(working: &AtomicUsize) {
    assert!(working.fetch_add(1, SeqCst) < AT_ONCE, "more clients than the server takes");
    thread::yield_now();
    working.fetch_sub(1, SeqCst);
}

/// Whoever waits for the end of a grant hears of it, whenever he began to wait, and can say why; what control does to the
/// grant afterwards revives nothing.
#[test]
fn an_end_is_heard_by_all_and_is_final() {
    explore(|| {
        let grant = Arc::new(Grant::until(LATER));
        let sessions = [(); 2].map(|()| {
            let grant = Arc::clone(&grant);
            thread::spawn(move || {
                block_on(grant.revoked());
                assert!(!grant.allows(NOW), "a byte passes after the end");
                assert!(grant.disconnect_reason().is_some(), "nobody knows why it ended");
            })
        });
        let relay = thread::spawn({
            let grant = Arc::clone(&grant);
            move || {
                let mut ended = false;
                for _ in 0..4 {
                    let allows = grant.allows(NOW);
                    assert!(!(ended && allows), "an ended grant comes back");
                    ended |= !allows;
                }
                assert!(
                    !grant.is_revoked() || grant.disconnect_reason().is_some(),
                    "nobody knows why it ended"
                );
            }
        });
        grant.set_ends_when_idle(true);
        grant.set_end(LATER);
        grant.revoke(DisconnectReason::NewLeader);
        grant.set_end(LATER);
        sessions.into_iter().chain([relay]).for_each(|thread| thread.join().unwrap());
    });
}

/// A worker that watches a grant as the event loop does (it asks to be woken, then looks) misses no change.
#[test]
fn a_worker_that_looks_after_it_asked_to_be_woken_misses_no_change() {
    explore(|| {
        let grant = Arc::new(Grant::until(LATER));
        let worker = thread::spawn({
            let grant = Arc::clone(&grant);
            move || {
                block_on(async {
                    loop {
                        let mut change = pin!(grant.changed());
                        change.as_mut().enable();
                        if grant.is_revoked() {
                            return;
                        }
                        change.await;
                    }
                });
            }
        });
        grant.set_ends_when_idle(true);
        grant.set_ends_when_idle(false);
        grant.revoke(DisconnectReason::Stopping);
        worker.join().unwrap();
    });
}
