//! The proxy itself, as an operator would run it in front of one server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::server::{MONITOR, PASSWORD};
use crate::{Leashed, Loopback, Scratch, places};

/// A running proxy that has found its leader.
#[derive(Debug)]
pub struct Proxy {
    process: Leashed,
    loopback: Loopback,
}

impl Proxy {
    /// Starts the proxy for the one member at `member` and waits until it routes. `more` are further arguments.
    ///
    /// # Errors
    /// When it is not built or does not become ready; its log is in the error.
    pub fn start(loopback: Loopback, member: SocketAddr, more: &[&str]) -> Result<Self> {
        let program = places::proxy()?.to_string_lossy().into_owned();
        let [member, listen, admin] = [member, loopback.proxy(), loopback.admin()].map(|a| a.to_string());
        let argv = [
            [program.as_str(), "run"],
            ["--member", &member],
            ["--probe-user", MONITOR],
            ["--write-listen", &listen],
            ["--admin-listen", &admin],
            // These tests are about bytes: on a machine that is busy with them a late answer must not fence the only server.
            ["--policy-rival-limit", PATIENCE],
            ["--policy-evidence-limit", PATIENCE],
        ];
        let argv: Vec<String> =
            argv.concat().into_iter().chain(more.iter().copied()).map(str::to_owned).collect();
        let env = [("PGLP_PROBE_PASSWORD", PASSWORD)];
        let process = Leashed::start("pg-leader-proxy", Scratch::new("proxy")?, "KILL", &argv, &env)?;
        let mut proxy = Self { process, loopback };
        let admin = loopback.admin();
        proxy
            .process
            .wait_until(START, || Ok(get(admin, "/leader").is_ok_and(|answer| answer.status == 200)))?;
        Ok(proxy)
    }

    /// Asks one of its admin pages.
    ///
    /// # Errors
    /// When it does not answer in HTTP.
    pub fn get(&self, path: &str) -> Result<Answer> {
        get(self.loopback.admin(), path)
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The most memory it ever had, as Linux counts it.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn peak_memory_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// How many file descriptors it holds: every session that is not let go shows here.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn descriptors(&self) -> Result<usize> {
        let pid = self.process.pid()?;
        Ok(std::fs::read_dir(format!("/proc/{pid}/fd")).context("count the proxy's descriptors")?.count())
    }
}

/// An answer of the admin pages.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What came after the headers.
    pub body: String,
}

fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER).context("connect to the admin address")?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("read the admin answer")?;
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no HTTP status")?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Ok(Answer { status, body })
}

/// How old the server's word may get; a thousand connections on two processors delay a probe by seconds.
const PATIENCE: &str = "20s";
/// Until the first leader: a probe and its answer, on a machine busy with other tests.
const START: Duration = Duration::from_secs(20);
/// For one page.
const ANSWER: Duration = Duration::from_secs(5);
