//! Sites: a published address and the socket address that it resolves to.

use std::fmt;
use std::net::SocketAddr;

use pg_leader_proxy_core::ServerAddr;

/// A published address, and the socket address that it resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The address that the cluster publishes.
    pub addr: ServerAddr,
    /// The socket address.
    pub socket: SocketAddr,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addr, socket) = (self.addr.to_string(), self.socket.to_string());
        if addr == socket { f.write_str(&addr) } else { write!(f, "{addr} ({socket})") }
    }
}
