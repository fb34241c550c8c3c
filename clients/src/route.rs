//! A server with the proxy in front, with or without recorders on both sides of the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::tap::{Recording, same_bytes};
use crate::{Major, Proxy, Server, Tap};

/// `client ⇄ (tap) ⇄ proxy ⇄ (tap) ⇄ server`.
///
/// With `PGLP_CLIENTS_DIRECT` set the proxy is left out: a control run, which tells a fault of a client or of its
/// installation from one of the proxy.
#[derive(Debug)]
pub struct Route {
    address: SocketAddr,
    front: Option<Tap>,
    proxy: Option<Proxy>,
    back: Option<Tap>,
    /// The server at the end. Last, so that it outlives what points at it.
    pub server: Server,
}

impl Route {
    /// Starts everything, with recorders. They keep every byte, so this is not for gigabytes.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn recorded(major: Major) -> Result<Self> {
        let server = Server::start(major)?;
        let at = server.loopback;
        let back = Tap::start(at.server_tap(), at.server())?;
        // Probes in the clear, so that the recordings tell them from clients.
        let clear = ["--probe-sslmode", "disable"];
        let proxy = if is_control() { None } else { Some(Proxy::start(at, at.server_tap(), &clear)?) };
        let front_target = if proxy.is_some() { at.proxy() } else { at.server_tap() };
        let front = Tap::start(at.client_tap(), front_target)?;
        Ok(Self { address: at.client_tap(), front: Some(front), proxy, back: Some(back), server })
    }

    /// Starts server and proxy, without recorders.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn plain(major: Major) -> Result<Self> {
        let server = Server::start(major)?;
        let at = server.loopback;
        let proxy = if is_control() { None } else { Some(Proxy::start(at, at.server(), &[])?) };
        let address = if proxy.is_some() { at.proxy() } else { at.server() };
        Ok(Self { address, front: None, proxy, back: None, server })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The proxy; `None` in a control run.
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// What the clients sent and got so far, once every connection has ended.
    ///
    /// # Errors
    /// When one is still open, or when this route has no recorders.
    pub fn recordings(&self) -> Result<Vec<Recording>> {
        self.front.as_ref().context("this route has no recorders")?.recordings(ENDED, |_| true)
    }

    /// How many connections of clients arrived at the server so far.
    ///
    /// # Errors
    /// When one is still open, or when this route has no recorders.
    pub fn arrivals(&self) -> Result<usize> {
        Ok(self.arrived()?.len())
    }

    /// Says that every client connection so far arrived at the server unchanged, in both directions, and gives their number.
    ///
    /// # Errors
    /// When one differs, is still open, or when there was none at all.
    pub fn same_bytes(&self) -> Result<usize> {
        let front = self.recordings()?;
        // The proxy keeps its probes open, so only the clients' connections are waited for.
        let back = self.back.as_ref().context("this route has no recorders")?;
        let back = back.recordings(ENDED, |recording| !is_probe(recording))?;
        ensure!(!front.is_empty(), "no client came");
        same_bytes(&front, &back)
    }

    fn arrived(&self) -> Result<Vec<Recording>> {
        let back = self.back.as_ref().context("this route has no recorders")?;
        // The proxy keeps its probes open, so only the clients' connections are waited for.
        back.recordings(ENDED, |recording| !is_probe(recording))
    }
}

impl Drop for Route {
    /// A failed test shows what the proxy had to say, because its files are gone afterwards.
    #[expect(clippy::print_stderr, reason = "the test's own output, kept with it by the test runner")]
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.as_ref().filter(|_| std::thread::panicking()) {
            eprintln!("the proxy's log:\n{}", proxy.log());
        }
    }
}

fn is_control() -> bool {
    std::env::var_os("PGLP_CLIENTS_DIRECT").is_some()
}

/// The proxy's own connections name its user in the clear start-up packet; no client of these tests uses that user.
/// A connection that has not said anything yet counts as one: a client's would be ended, so it would have spoken.
fn is_probe(recording: &Recording) -> bool {
    let probe = b"user\0monitor\0";
    recording.from_client.is_empty()
        || recording.from_client.windows(probe.len()).any(|window| window == probe)
}

/// Clients close before their test compares; the server takes a moment to notice.
const ENDED: Duration = Duration::from_secs(15);
