//! Servers, proxies and recorders for showing that PostgreSQL's protocol passes the proxy whole.
//!
//! A [`Route`] is what most tests stand on: `client ⇄ tap ⇄ proxy ⇄ tap ⇄ server`. The client programs print one line per
//! behaviour ([`program`]); the two [`Tap`]s say whether each connection's bytes were the same on both sides of the proxy.

pub mod certificates;
pub mod client;
pub mod first_packet;
pub mod leash;
pub mod loopback;
pub mod places;
pub mod program;
pub mod proxy;
pub mod route;
pub mod scratch;
pub mod server;
pub mod tap;
pub mod tls;
pub mod wait;
pub mod wire;

pub use client::Client;
pub use leash::Leashed;
pub use loopback::Loopback;
pub use proxy::Proxy;
pub use route::Route;
pub use scratch::Scratch;
pub use server::{Major, Server};
pub use tap::Tap;
