//! The addresses of one test, on PostgreSQL's usual ports of a loopback address that no other test uses.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use lab::Subnet;

/// The addresses of a server and everything in front of it.
#[derive(Debug)]
pub struct Addresses {
    subnet: Subnet,
}

impl Addresses {
    /// Takes them until they are dropped.
    ///
    /// # Errors
    /// When no loopback address is free.
    pub fn take() -> Result<Self> {
        Ok(Self { subnet: Subnet::take()? })
    }

    /// The IP address of all of them.
    pub fn ip(&self) -> IpAddr {
        self.subnet.host(2)
    }

    /// Where the PostgreSQL server listens.
    pub fn server(&self) -> SocketAddr {
        self.port(5432)
    }

    /// Where the recorder between proxy and server listens. The proxy knows this address as its member.
    pub fn server_recorder(&self) -> SocketAddr {
        self.port(6432)
    }

    /// Where the proxy's write route listens.
    pub fn proxy(&self) -> SocketAddr {
        self.port(5433)
    }

    /// Where the recorder between client and proxy listens.
    pub fn client_recorder(&self) -> SocketAddr {
        self.port(6433)
    }

    /// Where the proxy's admin pages are.
    pub fn admin(&self) -> SocketAddr {
        self.port(9433)
    }

    fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip(), port))
    }
}
