//! The workshop: a directory, the hosts, and a user to run programs as. It all goes when the benchmark does.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Process, Reaper, User};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime;
use tokio::task::LocalSet;

use super::hosts::{Host, Hosts, Network};

/// Descriptors that a process needs beside two for each session.
const OTHER_DESCRIPTORS: u64 = 200;
const LOOK: Duration = Duration::from_millis(5);

/// Where and as whom everything runs.
#[derive(Debug)]
pub struct Workshop {
    /// The hosts.
    pub hosts: Hosts,
    user: User,
    reaper: Reaper,
}

impl Workshop {
    /// Makes it, and lets this process and its children open as many files as they may.
    ///
    /// # Errors
    /// When hosts or directory cannot be made.
    pub fn make(network: Network) -> Result<Self> {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
            .context("raising the limit of open files")?;
        let user = User::for_postgres()?;
        Ok(Self { hosts: Hosts::make(network)?, reaper: Reaper::start(&user)?, user })
    }

    /// What the programs write. Gone at the end unless `LAB_KEEP=1`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.reaper.directory()
    }

    /// Starts a program on a host. Only the main thread may: the program ends with the thread that started it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, host: &Host, program: &Path, job: &Job<'_>) -> Result<Process> {
        let mut command = host.command(&self.user, program);
        command.args(job.arguments).envs(job.environment.iter().copied());
        Process::start(&self.reaper, job.name, command, self.directory())
    }

    /// Runs a program on a host to its end. What it said is in [`Workshop::log`].
    ///
    /// # Errors
    /// When it cannot be started, fails, or has not ended in time.
    pub fn run(&self, host: &Host, program: &Path, job: &Job<'_>, within: Duration) -> Result<()> {
        let mut process = self.start(host, program, job)?;
        let status = process.wait(within)?;
        ensure!(status.success(), "{} ended ({status}):\n{}", job.name, process.log()?);
        Ok(())
    }

    /// A program of this workspace, copied to where the user that programs run as can read it.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn adopt(&self, program: &Path, name: &str) -> Result<PathBuf> {
        let copy = self.directory().join(format!("{name}-program"));
        std::fs::copy(program, &copy).with_context(|| format!("copying {}", program.display()))?;
        Ok(copy)
    }

    /// Where a program of that name logs to.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory().join(format!("{name}.log"))
    }
}

/// What to start.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Its name in errors and in the name of its log.
    pub name: &'a str,
    /// Its arguments.
    pub arguments: &'a [&'a OsStr],
    /// Its environment; it inherits next to nothing.
    pub environment: &'a [(&'a str, &'a str)],
}

/// Words as a program takes them.
pub fn words<'a>(words: &[&'a str]) -> Vec<&'a OsStr> {
    words.iter().copied().map(OsStr::new).collect()
}

/// As many of `wanted` sessions as one process can hold here, with two descriptors each.
#[must_use]
pub fn sessions_possible(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).maximum;
    let possible = limit.map_or(u64::MAX, |limit| limit.saturating_sub(OTHER_DESCRIPTORS) / 2);
    // To whole hundreds, so that the figure does not pretend.
    let possible = usize::try_from(possible).unwrap_or(usize::MAX);
    if wanted <= possible { wanted } else { possible / 100 * 100 }
}

/// Runs a future on a host, in a runtime of its own with a thread of its own.
///
/// # Errors
/// When the runtime cannot be made, or what the future says.
pub fn run_on<T: Send, F: Future<Output = Result<T>>>(
    host: &Host,
    work: impl FnOnce() -> F + Send,
) -> Result<T> {
    host.within(|| {
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        LocalSet::new().block_on(&runtime, work())
    })
}

/// Tries until it works.
///
/// # Errors
/// The last one when it has not worked in time.
pub fn until_it_works<T>(within: Duration, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match work() {
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("not within {within:?}")));
            }
            Err(_) => std::thread::sleep(LOOK),
            done => return done,
        }
    }
}
