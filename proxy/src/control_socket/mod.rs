//! The control socket: a Unix socket on which an operator's commands reach a running proxy, as HTTP requests.

mod actions;
pub mod answers;
mod peer;
mod routes;
mod socket;

pub use actions::{Actions, ReloadRequest};
pub use socket::ControlSocket;
