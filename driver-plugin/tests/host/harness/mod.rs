//! The host: a plugin process and jobs for it.

mod job;
mod plugin;

pub(crate) use job::{
    Job, connects, descriptors, is_empty, lives, recover, send, signal, soon, status_field, until, wait,
};
pub(crate) use plugin::{COOKIE, Plugin, program};
