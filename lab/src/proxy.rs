//! The proxy under test as a process: started, asked over its admin page, signalled and ended.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;
use rustix::process::Signal;

use crate::http::{self, Response};
use crate::process::{Process, User, tail};
use crate::proxy_command::{ProxyArguments, ProxyCommand};
use crate::reaper::Reaper;

/// From start to the first 200 at `/ready`, with a healthy cluster and a busy machine.
const READY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// One answer of the admin page.
const ADMIN: Duration = Duration::from_secs(5);
/// How long `stop` waits; above the proxy's own drain.
const STOP: Duration = Duration::from_secs(40);

/// A running proxy. Dropping it kills it.
#[derive(Debug)]
pub struct Proxy {
    // Before the reaper, which removes the directory.
    process: Mutex<Process>,
    reaper: Reaper,
    admin: SocketAddr,
}

impl Proxy {
    /// Starts it and waits until `/ready` answers 200.
    ///
    /// # Errors
    /// When it ends or is not ready within 20 seconds, with the end of its log.
    pub async fn start(setup: &ProxyCommand) -> Result<Self> {
        let proxy = Self::launch(setup)?;
        proxy.wait_ready(READY).await?;
        Ok(proxy)
    }

    /// Starts it and waits for nothing.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn launch(setup: &ProxyCommand) -> Result<Self> {
        let mut reaper = Reaper::start(&User::Own)?;
        let directory = reaper.directory().to_path_buf();
        let mut command = Command::new(&setup.binary);
        command.arg("run");
        match &setup.arguments {
            ProxyArguments::Config(text) => {
                let file = directory.join(CONFIG_FILE);
                fs::write(&file, text).context("writing the proxy's configuration")?;
                command.arg("--config").arg(file);
            }
            ProxyArguments::Flags(flags) => drop(command.args(flags)),
        }
        command.envs(setup.environment.iter().map(|(key, value)| (key, value)));
        for inherited in ["RUST_LOG", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
            command.envs(env::var_os(inherited).map(|value| (OsStr::new(inherited).to_owned(), value)));
        }
        let process = Process::start("the proxy", command, &directory, directory.join("proxy.log"))?;
        reaper.watch(process.id())?;
        Ok(Self { process: Mutex::new(process), reaper, admin: setup.admin })
    }

    /// Waits until `/ready` answers 200.
    ///
    /// # Errors
    /// When the proxy ends or has not answered so within the time, with its last answer and the end of its log.
    pub async fn wait_ready(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            self.process.lock().check_running()?;
            let answer = self.get("/ready").await;
            match answer {
                Ok(Response { status: 200, .. }) => return Ok(()),
                other if Instant::now() >= deadline => {
                    bail!(
                        "the proxy is not ready after {within:?}: {other:?}; its log ends:\n{}",
                        self.log_tail()
                    )
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// GET at the admin page, such as `/ready` or `/metrics`.
    ///
    /// # Errors
    /// When nothing answers within 5 seconds.
    pub async fn get(&self, path: &str) -> Result<Response> {
        http::get(self.admin, path, ADMIN).await
    }

    /// Replaces the configuration file; [`Proxy::reload`] makes it count.
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

    /// SIGSTOP: a machine that was paused. Undone by [`Proxy::thaw`].
    pub fn freeze(&self) {
        self.process.lock().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process.lock().signal(Signal::CONT);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after that time.
    pub async fn wait_end(&self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Ok(status) = self.process.lock().wait(Duration::ZERO) {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "the proxy still runs after {within:?}; its log ends:\n{}",
                self.log_tail()
            );
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

    /// Its process id, for measuring.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.lock().id()
    }

    /// Where its admin page is.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its directory, with `proxy.toml` and `proxy.log`. Gone with it unless `LAB_KEEP=1`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.reaper.directory()
    }

    /// All it logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(self.process.lock().log()).context("reading the proxy's log")
    }

    fn log_tail(&self) -> String {
        tail(self.process.lock().log())
    }
}

const CONFIG_FILE: &str = "proxy.toml";

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut process = self.process.lock();
        // Its number may be another's by the time the reaper sweeps.
        if process.kill().is_ok() {
            let _ = self.reaper.forget(process.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[tokio::test]
    async fn a_program_that_ends_at_once_is_quoted() {
        let setup = ProxyCommand {
            binary: PathBuf::from("/bin/sh"),
            arguments: ProxyArguments::Flags(Vec::new()),
            environment: Vec::new(),
            admin: "127.0.0.1:1".parse().unwrap(),
        };
        // A shell told to "run" finds no such script.
        let error = format!("{:#}", Proxy::start(&setup).await.unwrap_err());
        assert!(error.contains("the proxy ended") && error.contains("cannot open run"), "{error}");
    }
}
