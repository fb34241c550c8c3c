//! The locks and atomics that decide who may forward and who comes next: std's, or shuttle's, under which a test goes through
//! the orders in which threads may run (`make races`).

#[cfg(feature = "races")]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(feature = "races"))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
