//! Constructors of messages with fields that must not be missing.

mod answers;
mod attributes;
mod error;
mod schema;
mod status;
mod usage;
