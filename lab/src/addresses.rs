//! A piece of loopback for each cluster: a /24 of its own, so ports are the well-known ones and addresses readable.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

/// Bound on the first address of a /24 while a cluster lives there; the kernel lets only one process have it.
const GUARD_PORT: u16 = 1717;
/// Tries before giving up. There are 126 × 254 networks, so this many in a row taken means something else is wrong.
const ATTEMPTS: u32 = 2000;

/// A /24 of loopback that belongs to one cluster until it is dropped.
#[derive(Debug)]
pub struct Subnet {
    prefix: [u8; 3],
    /// Held, never accepted on: binding it is the claim.
    _guard: TcpListener,
}

impl Subnet {
    /// Takes a free /24, beginning at a place that depends on `seed` so that parallel processes seldom collide.
    ///
    /// # Errors
    /// When binding fails for another reason than "taken", or nothing is free.
    pub fn take(seed: u32) -> Result<Self> {
        let mut place = seed;
        for _ in 0..ATTEMPTS {
            // A full-period generator modulo 2^32: every network is reached, in an order that scatters neighbours.
            place = place.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let prefix = prefix_of(place);
            let address = SocketAddr::new(host_in(prefix, 1), GUARD_PORT);
            match TcpListener::bind(address) {
                Ok(guard) => return Ok(Self { prefix, _guard: guard }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error).with_context(|| format!("claiming {address}")),
            }
        }
        bail!("no free 127.x.y.0/24 after {ATTEMPTS} tries (port {GUARD_PORT} is taken on each)")
    }

    /// The address 127.R.S.`host`.
    #[must_use]
    pub fn host(&self, host: u8) -> IpAddr {
        host_in(self.prefix, host)
    }

    /// The address 127.R.S.`host` with a port.
    #[must_use]
    pub fn socket(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.host(host), port)
    }
}

/// 127.0.x.x and 127.1.x.x stay free: people and other tests use them.
fn prefix_of(place: u32) -> [u8; 3] {
    let second = 2 + (place >> 24) as u8 % 252;
    let third = 1 + (place >> 16) as u8 % 254;
    [127, second, third]
}

fn host_in([first, second, third]: [u8; 3], host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(first, second, third, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_subnets_of_one_seed_differ() {
        let first = Subnet::take(7).unwrap();
        let second = Subnet::take(7).unwrap();
        assert_ne!(first.host(1), second.host(1));
    }

    #[test]
    fn a_dropped_subnet_is_free_again() {
        let first = Subnet::take(11).unwrap().host(1);
        assert_eq!(Subnet::take(11).unwrap().host(1), first);
    }

    #[test]
    fn no_subnet_is_one_that_people_use() {
        for place in (0..=u32::MAX).step_by(65_537) {
            let [first, second, third] = prefix_of(place);
            assert!(first == 127 && second >= 2 && third >= 1, "{place}");
        }
    }
}
