//! A loopback address of one's own, so that tests run side by side on PostgreSQL's usual ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};

use crate::scratch::random;

/// An address `127.x.y.z` on which none of our ports was taken.
#[derive(Clone, Copy, Debug)]
pub struct Loopback(Ipv4Addr);

impl Loopback {
    /// Picks an address at random and proves by binding that its ports are free.
    ///
    /// # Errors
    /// When `ATTEMPTS` addresses in a row were taken.
    pub fn pick() -> Result<Self> {
        for _ in 0..ATTEMPTS {
            let [a, b, c, ..] = random().to_be_bytes();
            // 127.0.0.x is where a real server of this machine would be.
            let candidate = Self(Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254)));
            if candidate.is_free() {
                return Ok(candidate);
            }
        }
        bail!("no free loopback address in {ATTEMPTS} attempts");
    }

    /// The address itself.
    #[must_use]
    pub fn ip(self) -> Ipv4Addr {
        self.0
    }

    /// Where the PostgreSQL server listens.
    #[must_use]
    pub fn server(self) -> SocketAddr {
        self.port(5432)
    }

    /// Where the recorder between proxy and server listens; the proxy knows this as its member.
    #[must_use]
    pub fn server_tap(self) -> SocketAddr {
        self.port(6432)
    }

    /// Where the proxy's write route listens.
    #[must_use]
    pub fn proxy(self) -> SocketAddr {
        self.port(5433)
    }

    /// Where the recorder between client and proxy listens.
    #[must_use]
    pub fn client_tap(self) -> SocketAddr {
        self.port(6433)
    }

    /// Where the proxy's admin pages are.
    #[must_use]
    pub fn admin(self) -> SocketAddr {
        self.port(9433)
    }

    fn port(self, port: u16) -> SocketAddr {
        SocketAddr::from((self.0, port))
    }

    fn is_free(self) -> bool {
        [self.server(), self.server_tap(), self.proxy(), self.client_tap(), self.admin()]
            .into_iter()
            .all(|address| TcpListener::bind(address).is_ok())
    }
}

/// The range has sixteen million addresses; a second attempt is rare already.
const ATTEMPTS: usize = 50;
