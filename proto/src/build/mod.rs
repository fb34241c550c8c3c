//! Constructors of the messages that must not lack a part.

mod answers;
mod attributes;
mod error;
mod schema;
mod status;
mod usage;

pub use status::never;
