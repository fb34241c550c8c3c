//! Goes through the orders in which the threads of a model may run.

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// How many orders of each kind.
const ORDERS: usize = 2_000;
/// How many times an order of the second kind turns from one thread to another on its own.
const TURNS: usize = 3;
/// The stack of each thread, in bytes: a router is larger than shuttle expects.
const STACK: usize = 1 << 20;

/// Runs a model in many orders: random ones, and those in which few turns matter (PCT). A failure prints the order, which
/// `shuttle::replay` runs again. A model whose threads all wait has failed, too.
pub(crate) fn explore(model: fn()) {
    let config = || {
        let mut config = Config::new();
        config.stack_size = STACK;
        config
    };
    Runner::new(RandomScheduler::new(ORDERS), config()).run(model);
    Runner::new(PctScheduler::new(TURNS, ORDERS), config()).run(model);
}
