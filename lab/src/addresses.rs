//! A /24 of loopback for each cluster, so that clusters run side by side on the usual ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

/// Bound on the first address of a /24 while it is taken: the kernel lets only one process bind it.
const CLAIM_PORT: u16 = 1717;
/// There are 252 × 254 networks. When so many random ones in a row are taken, something else is wrong.
const ATTEMPTS: u32 = 2000;

/// A /24 of loopback that nobody else takes until it is dropped.
#[derive(Debug)]
pub struct Subnet {
    prefix: [u8; 3],
    /// Never accepted on: to bind it is the claim.
    _claim: TcpListener,
}

impl Subnet {
    /// Takes a free /24 at random.
    ///
    /// # Errors
    /// When binding fails for another reason than "address in use", or nothing is free.
    pub fn take() -> Result<Self> {
        for _ in 0..ATTEMPTS {
            // People and other tests use 127.0.x.x and 127.1.x.x.
            let prefix = [127, fastrand::u8(2..254), fastrand::u8(1..255)];
            let address = SocketAddr::new(host_in(prefix, 1), CLAIM_PORT);
            match TcpListener::bind(address) {
                Ok(claim) => return Ok(Self { prefix, _claim: claim }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error).with_context(|| format!("claiming {address}")),
            }
        }
        bail!("no free 127.x.y.0/24 after {ATTEMPTS} attempts (port {CLAIM_PORT} is in use on each)")
    }

    /// The address 127.x.y.`host`.
    #[must_use]
    pub fn host(&self, host: u8) -> IpAddr {
        host_in(self.prefix, host)
    }

    /// The address 127.x.y.`host` with a port.
    #[must_use]
    pub fn socket(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.host(host), port)
    }
}

fn host_in([first, second, third]: [u8; 3], host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(first, second, third, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_taken_until_it_is_dropped() {
        let subnet = Subnet::take().unwrap();
        let claim = subnet.socket(1, CLAIM_PORT);
        assert_eq!(TcpListener::bind(claim).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(subnet);
        assert!(TcpListener::bind(claim).is_ok());
    }
}
