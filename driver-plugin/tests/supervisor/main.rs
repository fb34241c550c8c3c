//! Supervisors and relays as processes, driven by the plugin's side of the library.
#![allow(clippy::unwrap_used)]

mod ends;
mod leftovers;
mod processes;
mod scene;
mod sockets;
mod starts;
