//! Real PostgreSQL clients and servers with the proxy in between, to show that it changes nothing of the protocol.
//!
//! Most tests stand on a [`Testbed`]: `client ⇄ recorder ⇄ proxy ⇄ recorder ⇄ server`. A client program prints one line
//! for each behaviour that it has shown ([`program`]), and the two recorders show whether the bytes of each connection were
//! the same on both sides of the proxy. `clients/README.md` says how to run it and what is covered.

mod addresses;
mod client;
pub mod connect;
pub mod first_packet;
mod installed;
pub mod program;
mod proxy;
pub mod raw_client;
mod recorder;
pub mod server;
mod testbed;
pub mod tls;

pub use addresses::Addresses;
pub use client::{Client, page_program};
pub use proxy::Proxy;
pub use raw_client::RawClient;
pub use recorder::Recording;
pub use server::{Major, Server};
pub use testbed::Testbed;
