//! The egress guard, case by case: which exit node it takes, and that it fails closed.
#![allow(clippy::unwrap_used, missing_docs)]

mod input;
mod scene;
mod selection;
mod waiting;
