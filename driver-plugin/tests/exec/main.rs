//! Commands beside a task, through the library, with the built program as their trampoline.

#![allow(clippy::unwrap_used, reason = "a test")]

mod run;
mod settled;
mod stage;
mod stream;
mod terminal;
