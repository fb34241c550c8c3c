//! Sessions over real sockets, between real clients' bytes and a server that the test plays.
#![allow(clippy::unwrap_used)]

mod fake;
mod opening;
mod passing;
mod serving;
mod severing;
mod waiting;

use pg_leader_proxy::admission::GateLimits;

/// A gate that keeps nobody waiting.
const WIDE: GateLimits = GateLimits { max_held: 100, max_concurrent_logins: 100 };
