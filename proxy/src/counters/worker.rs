//! Counters of one worker: the bytes that its relays pass on.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::route::RouteKind;

/// The bytes that the relays of one worker have passed on.
///
/// Only the worker writes them, so that counting costs it a plain load and store, and in cache lines that no other worker
/// writes to.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerBytes([[AtomicU64; 2]; RouteKind::ALL.len()]);

impl WorkerBytes {
    /// Adds bytes that were sent to servers and to clients. Only the worker may call it.
    pub fn add(&self, route: RouteKind, passed: [u64; 2]) {
        for (counter, bytes) in self.0[route as usize].iter().zip(passed) {
            counter.store(counter.load(Relaxed) + bytes, Relaxed);
        }
    }

    /// The bytes sent to servers and to clients.
    pub fn bytes(&self, route: RouteKind) -> [u64; 2] {
        self.0[route as usize].each_ref().map(|counter| counter.load(Relaxed))
    }
}
