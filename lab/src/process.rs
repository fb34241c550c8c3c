//! A program that the lab has started: its log, its signals and its end.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::reaper::{Reaper, Watch};
use crate::wait::{PAUSE, retry};

/// How long a process may take to be gone after SIGKILL, or after the signal given to [`Process::stop_with`].
const STOP: Duration = Duration::from_secs(15);
/// Bytes of a log that an error quotes.
const TAIL: u64 = 2048;

/// A running program with a log file. Dropping it ends it; so does the end of this process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    stop_signal: Signal,
    /// `None` once the process has ended.
    watch: Option<Watch>,
}

impl Process {
    /// Starts `command` in `directory` with a clean environment and no input. Its output is appended to the file
    /// `NAME.log` there.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn start(reaper: &Reaper, name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening the log {}", log.display()))?;
        let errors = output.try_clone().context("sharing the log")?;
        // Inherited variables such as PGHOST or ETCD_NAME would change what the programs do.
        let given: Vec<_> =
            command.get_envs().map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned))).collect();
        command.env_clear().env("HOME", directory).env("LANG", "C.UTF-8").env("TZ", "UTC");
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command.envs(given.into_iter().filter_map(|(key, value)| Some((key, value?))));
        let child = command
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut process = Self { name: name.to_owned(), child, log, stop_signal: Signal::KILL, watch: None };
        process.watch = Some(reaper.watch(process.id())?);
        Ok(process)
    }

    /// Makes dropping the process send this signal, and SIGKILL only if it has not ended within 15 seconds.
    #[must_use]
    pub fn stop_with(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has written so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The end of its log, for errors.
    #[must_use]
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// Checks a process that should still be running.
    ///
    /// # Errors
    /// When it has ended; the error has the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        match self.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); its log ends:\n{}", self.name, self.log_tail()),
        }
    }

    /// Repeats `attempt` until it succeeds, as long as the process is running.
    ///
    /// # Errors
    /// When the process ends, or no attempt succeeds `within` that time. The error has the end of the log.
    pub fn wait_until_ready<T>(
        &mut self,
        within: Duration,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            self.check_running()?;
            match attempt() {
                Err(error) if Instant::now() >= deadline => {
                    let tail = self.log_tail();
                    return Err(error.context(format!(
                        "{} is not ready after {within:?}; its log ends:\n{tail}",
                        self.name
                    )));
                }
                Err(_) => sleep(PAUSE),
                ready => return ready,
            }
        }
    }

    /// Sends it a signal, unless it is known to have ended.
    pub fn signal(&self, signal: Signal) {
        if self.watch.is_some() {
            signal_pid(self.id(), signal);
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it is still running after that time.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        retry(&what, within, || self.try_wait()?.context("it is still running"))
    }

    /// Sends SIGKILL and waits until the process is gone.
    ///
    /// # Errors
    /// When it is not gone after 15 seconds.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.wait(STOP).map(drop)
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().with_context(|| format!("waiting for {}", self.name))?;
        if status.is_some() {
            self.watch = None;
        }
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.stop_signal != Signal::KILL {
            self.signal(self.stop_signal);
            let _ = self.wait(STOP);
        }
        let _ = self.kill();
    }
}

/// Signals a process by its id; one that is gone already is no error.
pub(crate) fn signal_pid(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The end of a file, for errors.
pub(crate) fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(cannot read {}: {error})", path.display()))
}
