//! Starts programs as the right user, signals them by id, and finds the descendants of a process.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::binaries;

/// How long a process may take to be gone after SIGKILL.
const KILL_BOUND: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);
/// Bytes of a log that an error quotes.
const TAIL: u64 = 2048;

/// Whom the cluster's programs run as.
#[derive(Clone, Debug)]
pub enum User {
    /// The one who runs the lab.
    Own,
    /// PostgreSQL refuses root, so root becomes `postgres`.
    Other {
        /// The program that changes the user.
        setpriv: PathBuf,
        /// The user's number.
        uid: u32,
        /// Its group's number.
        gid: u32,
    },
}

impl User {
    /// `postgres` when root, else oneself.
    ///
    /// # Errors
    /// When there is no such user, or no `setpriv`.
    pub fn for_postgres() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
        let line = passwd
            .lines()
            .find(|line| line.starts_with("postgres:"))
            .context("no user postgres in /etc/passwd: apt-get install postgresql-15")?;
        let mut ids = line.split(':').skip(2).map(str::parse::<u32>);
        let (Some(Ok(uid)), Some(Ok(gid))) = (ids.next(), ids.next()) else {
            bail!("cannot read the ids of postgres in {line:?}")
        };
        Ok(Self::Other { setpriv: binaries::setpriv()?, uid, gid })
    }

    /// A command that runs as this user; its pid is the program's own, because `setpriv` replaces itself.
    pub fn command(&self, program: &Path) -> Command {
        match self {
            Self::Own => Command::new(program),
            Self::Other { setpriv, uid, gid } => {
                let mut command = Command::new(setpriv);
                command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}"));
                command.arg("--clear-groups").arg("--").arg(program);
                command
            }
        }
    }
}

/// A running program with a log file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in `directory` with a clean environment, nothing to read and its output appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn start(name: &str, mut command: Command, directory: &Path, log: PathBuf) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening the log {}", log.display()))?;
        let errors = output.try_clone().context("sharing the log")?;
        // Variables such as PGHOST or ETCD_NAME of whoever runs the lab would steer the programs.
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
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of a process that should still run, as an error with the end of its log.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("asking for {}", self.name))? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); its log ends:\n{}", self.name, tail(&self.log)),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        signal_pid(self.child.id(), signal);
    }

    /// Waits for its end without asking it to end.
    ///
    /// # Errors
    /// When it still runs after that time.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        wait_for_end(&mut self.child, within)
            .with_context(|| format!("{} has not ended within {within:?}", self.name))
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// When it is not gone in time.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.wait(KILL_BOUND).map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// `None` when it still runs after that time.
pub(crate) fn wait_for_end(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + within;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// Signals a process by id; that it is gone already is no error.
pub(crate) fn signal_pid(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process exists and is no zombie (its parent may never ask for it: in a container often nobody reaps).
pub(crate) fn is_alive(pid: u32) -> bool {
    stat_of(pid).is_some_and(|(_, state)| !matches!(state, 'Z' | 'X'))
}

/// The process and all its descendants, parents first.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in all_pids() {
        if let Some((parent, _)) = stat_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    found
}

fn all_pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Parent and state. The name in between may hold spaces and brackets, so the fields are counted from its end.
fn stat_of(pid: u32) -> Option<(u32, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
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
