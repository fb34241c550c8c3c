//! A server with the proxy in front, with or without a recorder on each side of the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::recorder::{Recorder, Recording, same_bytes};
use crate::{Major, Proxy, Server};

/// Clients close their connections before the test compares; the server takes a moment to notice.
const ENDED: Duration = Duration::from_secs(15);

/// `client ⇄ (recorder) ⇄ proxy ⇄ (recorder) ⇄ server`.
///
/// With `PGLP_CLIENTS_DIRECT` in the environment there is no proxy. This control run tells a fault of a client or its
/// installation from a fault of the proxy.
#[derive(Debug)]
pub struct Testbed {
    address: SocketAddr,
    client_recorder: Option<Recorder>,
    proxy: Option<Proxy>,
    server_recorder: Option<Recorder>,
    /// The server at the end. Dropped last, after everything that points at it.
    pub server: Server,
}

impl Testbed {
    /// Starts everything, with recorders. They keep every byte, so this is not for gigabytes.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn recorded(major: Major) -> Result<Self> {
        let server = Server::start(major)?;
        let at = &server.addresses;
        let server_recorder = Recorder::start(at.server_recorder(), at.server())?;
        // Probes without TLS, so that the recordings tell them from clients.
        let flags = ["--probe-sslmode=disable"];
        let proxy =
            if is_control_run() { None } else { Some(Proxy::start(at, at.server_recorder(), &flags)?) };
        let target = if proxy.is_some() { at.proxy() } else { at.server_recorder() };
        let client_recorder = Recorder::start(at.client_recorder(), target)?;
        Ok(Self {
            address: at.client_recorder(),
            client_recorder: Some(client_recorder),
            proxy,
            server_recorder: Some(server_recorder),
            server,
        })
    }

    /// Starts server and proxy, without recorders.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn plain(major: Major) -> Result<Self> {
        let server = Server::start(major)?;
        let at = &server.addresses;
        let proxy = if is_control_run() { None } else { Some(Proxy::start(at, at.server(), &[])?) };
        let address = if proxy.is_some() { at.proxy() } else { at.server() };
        Ok(Self { address, client_recorder: None, proxy, server_recorder: None, server })
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

    /// What the clients sent and received so far. Waits until all their connections have ended.
    ///
    /// # Errors
    /// When one is still open, or there are no recorders.
    pub fn recordings(&self) -> Result<Vec<Recording>> {
        self.client_recorder.as_ref().context("there are no recorders")?.recordings(ENDED, |_| true)
    }

    /// How many connections of clients have reached the server so far.
    ///
    /// # Errors
    /// When one is still open, or there are no recorders.
    pub fn connections_at_server(&self) -> Result<usize> {
        Ok(self.server_recordings()?.len())
    }

    /// Checks that every client connection reached the server unchanged in both directions. Returns their number.
    ///
    /// # Errors
    /// When one was changed or is still open, or there was none at all.
    pub fn same_bytes(&self) -> Result<usize> {
        let at_client = self.recordings()?;
        ensure!(!at_client.is_empty(), "no client has connected");
        same_bytes(&at_client, &self.server_recordings()?)
    }

    fn server_recordings(&self) -> Result<Vec<Recording>> {
        let recorder = self.server_recorder.as_ref().context("there are no recorders")?;
        // The proxy keeps its probes open, so this waits only for the clients' connections.
        recorder.recordings(ENDED, |recording| !is_probe(recording))
    }
}

impl Drop for Testbed {
    /// A failed test prints the proxy's log, because the file is removed.
    #[expect(clippy::print_stderr, reason = "the test runner keeps it with the test")]
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.as_ref().filter(|_| std::thread::panicking()) {
            eprintln!("the proxy's log:\n{}", proxy.log().unwrap_or_else(|error| format!("{error:#}")));
        }
    }
}

fn is_control_run() -> bool {
    std::env::var_os("PGLP_CLIENTS_DIRECT").is_some()
}

/// The proxy's own connections: their start-up packet is in clear text and names the probe's user, which no client of
/// these tests uses. A connection without any byte counts as one, because a client's would have sent some before it ended.
fn is_probe(recording: &Recording) -> bool {
    let probe = b"user\0monitor\0";
    recording.from_client.is_empty()
        || recording.from_client.windows(probe.len()).any(|window| window == probe)
}
