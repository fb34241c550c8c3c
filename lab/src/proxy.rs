//! The proxy under test as a process: started, queried at its admin page, signalled and stopped.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use rustix::process::Signal;

use crate::http::{self, Response};
use crate::process::Process;
use crate::proxy_command::{ProxyArguments, ProxyCommand};
use crate::reaper::Reaper;
use crate::user::User;

const CONFIG_FILE: &str = "proxy.toml";
/// From the start to the first 200 at `/ready`, with a healthy cluster on a busy machine.
const READY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// One response of the admin page.
const RESPONSE: Duration = Duration::from_secs(5);
/// How long `stop` waits. Longer than the proxy drains.
const STOP: Duration = Duration::from_secs(40);

/// A running proxy. Dropping it kills it.
#[derive(Debug)]
pub struct Proxy {
    // Dropped before the reaper, which removes the directory.
    process: Mutex<Process>,
    reaper: Reaper,
    admin: SocketAddr,
}

impl Proxy {
    /// Starts it and waits until `/ready` answers 200.
    ///
    /// # Errors
    /// When it ends or is not ready within 20 seconds. The error has the end of its log.
    pub async fn start(command: &ProxyCommand) -> Result<Self> {
        let proxy = Self::launch(command)?;
        proxy.wait_for_ok("/ready", READY).await?;
        Ok(proxy)
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn launch(command: &ProxyCommand) -> Result<Self> {
        let reaper = Reaper::start(&User::own())?;
        let directory = reaper.directory();
        let mut program = Command::new(&command.binary);
        program.arg("run");
        match &command.arguments {
            ProxyArguments::Config(text) => {
                let file = directory.join(CONFIG_FILE);
                fs::write(&file, text).context("writing the proxy's configuration")?;
                program.arg("--config").arg(file);
            }
            ProxyArguments::Flags(flags) => drop(program.args(flags)),
        }
        program.envs(command.environment.iter().map(|(key, value)| (key, value)));
        for inherited in ["RUST_LOG", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
            program.envs(env::var_os(inherited).map(|value| (OsStr::new(inherited).to_owned(), value)));
        }
        let process = Process::start(&reaper, "proxy", program, directory)?;
        Ok(Self { process: Mutex::new(process), reaper, admin: command.admin })
    }

    /// Waits until this page of the admin address, such as `/ready` or `/leader`, answers 200.
    ///
    /// # Errors
    /// When the proxy ends, or has not answered so within the time. The error has its last answer and the end of its log.
    pub async fn wait_for_ok(&self, page: &str, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            self.process.lock().check_running()?;
            match self.get(page).await {
                Ok(Response { status: 200, .. }) => return Ok(()),
                other if Instant::now() >= deadline => {
                    bail!("{page} is not 200 after {within:?}: {other:?}; {}", self.end_of_log())
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Gets a page of the admin address, such as `/ready` or `/metrics`.
    ///
    /// # Errors
    /// When nothing answers within 5 seconds.
    pub async fn get(&self, page: &str) -> Result<Response> {
        http::get(self.admin, page, RESPONSE).await
    }

    /// Replaces the configuration file. [`Proxy::reload`] applies it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_config(&self, text: &str) -> Result<()> {
        fs::write(self.directory().join(CONFIG_FILE), text).context("writing the proxy's configuration")
    }

    /// SIGHUP.
    pub fn reload(&self) {
        self.process.lock().signal(Signal::HUP);
    }

    /// SIGTERM, without waiting: it drains.
    pub fn terminate(&self) {
        self.process.lock().signal(Signal::TERM);
    }

    /// SIGSTOP, as when a machine is paused. Undone by [`Proxy::thaw`].
    pub fn freeze(&self) {
        self.process.lock().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process.lock().signal(Signal::CONT);
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it is still running after that time.
    pub async fn wait_end(&self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Ok(status) = self.process.lock().wait(Duration::ZERO) {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("the proxy is still running after {within:?}; {}", self.end_of_log());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// SIGTERM, and waits up to 40 seconds for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&self) -> Result<ExitStatus> {
        self.terminate();
        self.wait_end(STOP).await
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&self) -> Result<()> {
        self.process.lock().kill()
    }

    /// Whether its process has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.process.lock().check_running().is_err()
    }

    /// Its process id, for measurements.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.lock().id()
    }

    /// The address of its admin page.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its directory, with `proxy.toml` and `proxy.log`. It goes with the proxy, unless the environment has `LAB_KEEP=1`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.reaper.directory()
    }

    /// Its whole log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.lock().log()
    }

    fn end_of_log(&self) -> String {
        format!("its log ends:\n{}", self.process.lock().log_tail())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[tokio::test]
    async fn the_error_for_a_program_that_ends_at_once_has_its_log() {
        let command = ProxyCommand {
            binary: PathBuf::from("/bin/sh"),
            arguments: ProxyArguments::Flags(Vec::new()),
            environment: Vec::new(),
            admin: "127.0.0.1:1".parse().unwrap(),
        };
        // A shell that is told to "run" finds no such script.
        let error = format!("{:#}", Proxy::start(&command).await.unwrap_err());
        assert!(error.contains("proxy ended") && error.contains("cannot open run"), "{error}");
    }
}
