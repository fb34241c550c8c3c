//! The proxy in front of one server, configured by flags.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::{ProxyArguments, ProxyCommand, proxy_binary};
use tokio::runtime;

use crate::addresses::Addresses;
use crate::server::{MONITOR, PASSWORD};

/// How old an answer of the server may get. A thousand connections on two processors delay a probe by seconds.
const MAX_PROBE_AGE: &str = "20s";
/// Until the first leader: a probe and its answer, on a machine busy with other tests.
const START: Duration = Duration::from_secs(20);

/// A running proxy that has found its leader.
#[derive(Debug)]
pub struct Proxy {
    process: lab::Proxy,
}

impl Proxy {
    /// Starts the proxy for the one member at `member` and waits until it has a leader. `more` are further flags.
    ///
    /// # Errors
    /// When it is not built, or has no leader in time. The error has the end of its log.
    pub fn start(addresses: &Addresses, member: SocketAddr, more: &[&str]) -> Result<Self> {
        let (listen, admin) = (addresses.proxy(), addresses.admin());
        let mut flags = vec![
            format!("--member={member}"),
            format!("--probe-user={MONITOR}"),
            format!("--write-listen={listen}"),
            format!("--admin-listen={admin}"),
            // These tests are about bytes: a late answer of a busy machine must not fence the only server.
            format!("--policy-max-member-probe-age={MAX_PROBE_AGE}"),
            format!("--policy-max-probe-age={MAX_PROBE_AGE}"),
        ];
        flags.extend(more.iter().copied().map(str::to_owned));
        let command = ProxyCommand {
            binary: proxy_binary()?,
            arguments: ProxyArguments::Flags(flags),
            environment: vec![("PGLP_PROBE_PASSWORD".to_owned(), PASSWORD.to_owned())],
            admin,
        };
        let process = lab::Proxy::launch(&command)?;
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        runtime.block_on(process.wait_for_ok("/leader", START))?;
        Ok(Self { process })
    }

    /// What it has logged so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// The most memory that it ever had, in KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn peak_memory_kib(&self) -> Result<u64> {
        self.in_proc()?.status()?.vmhwm.context("the kernel does not say its peak memory")
    }

    /// How many file descriptors it has open. A session that it does not let go shows here.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(self.in_proc()?.fd_count()?)
    }

    fn in_proc(&self) -> Result<procfs::process::Process> {
        Ok(procfs::process::Process::new(i32::try_from(self.process.id())?)?)
    }
}
