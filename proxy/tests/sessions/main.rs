//! Sessions over real sockets, with a fake server and clients that send raw bytes.
#![allow(clippy::unwrap_used)]

mod access;
mod fake;
mod first_packet;
mod haproxy;
mod holding;
mod late_answers;
mod promoted;
mod proxy_protocol;
mod relaying;
mod servers;
mod snapshots;
mod terminating;

use pg_leader_proxy::admission::GateLimits;

/// The limits of a gate that holds no client while it is open.
const WIDE: GateLimits = GateLimits { max_held: 100, max_concurrent_logins: 100 };
