//! What a measurement needs of a setup.

use std::net::SocketAddr;

/// Server, sessions and role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartOptions {
    /// The server, as the setup reaches it.
    pub(crate) server: SocketAddr,
    /// The server, as a client without proxy reaches it.
    pub(crate) direct: SocketAddr,
    /// The number of sessions at the same time.
    pub(crate) sessions: usize,
    /// Where HAProxy asks over HTTP whether the server is the leader. Without it HAProxy does not ask.
    pub(crate) check: Option<SocketAddr>,
    /// Whether the server is out of recovery from the start, so that a login must succeed.
    pub(crate) has_leader: bool,
    /// Whether all sessions share one thread.
    pub(crate) one_thread: bool,
}
