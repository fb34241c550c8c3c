//! The admin address: health answers, the decision and why, changes of leader, metrics, and a page for people.

mod access;
pub mod answers;
mod failovers;
mod members;
pub mod metrics;
mod page;
mod process_stats;
mod routes;
mod routing;
pub(crate) mod text;

pub use routes::{Admin, serve};
