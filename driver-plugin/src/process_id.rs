//! Identifies a process: pid, start time and boot id, so that a reused pid is never mistaken for it.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::Duration;

use procfs::process::{Process, Stat};
use procfs::{ProcError, ProcResult};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::signal::Signal;

/// The first pause between two looks at a process whose end is awaited. tokio has no safe way to wait for a pidfd.
const POLL: Duration = Duration::from_millis(10);
/// The longest pause: most processes run for days.
const POLL_MAX: Duration = Duration::from_millis(320);

/// One process, and never another one that got its number later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number of the process.
    pub pid: u32,
    /// When it started, in clock ticks after boot (proc_pid_stat(5)).
    pub start_time: u64,
    /// The boot during which it runs (random(4)).
    pub boot_id: String,
}

impl ProcessId {
    /// The process that has the number `pid` now.
    ///
    /// # Errors
    /// `NotFound` when there is none, or it has exited and was not reaped yet; else what the operating system says.
    pub fn of(pid: u32) -> io::Result<Self> {
        let (running, id) = Self::read(pid)?;
        if running { Ok(id) } else { Err(ErrorKind::NotFound.into()) }
    }

    /// The child process that has the number `pid` and was not reaped by this process. It may have exited.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of_child(pid: u32) -> io::Result<Self> {
        Self::read(pid).map(|(_, id)| id)
    }

    /// This process.
    ///
    /// # Errors
    /// What the operating system says, for example when `/proc` is not mounted.
    pub fn of_this_process() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// Whether the process runs. A zombie does not. A process that cannot be looked at, for lack of descriptors, may
    /// run.
    pub fn alive(&self) -> bool {
        match Self::of(self.pid) {
            Ok(present) => present == *self,
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    /// Sends a signal to this process and to no other.
    ///
    /// # Errors
    /// `NotFound` when the process has exited; else what the operating system says.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(self.open()?, signal.raw())?)
    }

    /// Waits until the process has exited.
    pub async fn ended(&self) {
        let mut pause = POLL;
        while self.alive() {
            sleep(pause).await;
            pause = (2 * pause).min(POLL_MAX);
        }
    }

    /// The process, and whether it runs.
    fn read(pid: u32) -> io::Result<(bool, Self)> {
        let stat = stat(pid).map_err(io_error)?;
        let boot_id = procfs::sys::kernel::random::boot_id().map_err(io_error)?;
        let id = Self { pid, start_time: stat.starttime, boot_id };
        Ok((!is_zombie(&stat), id))
    }

    /// A pidfd of the process. It is opened first and compared afterwards, so that the number cannot get another
    /// meaning in between.
    fn open(&self) -> io::Result<OwnedFd> {
        let gone = || io::Error::new(ErrorKind::NotFound, "the process has exited");
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| match errno {
            rustix::io::Errno::SRCH => gone(),
            errno => errno.into(),
        })?;
        if Self::of(self.pid)? == *self { Ok(pidfd) } else { Err(gone()) }
    }
}

/// The fields of `/proc/PID/stat`.
pub(crate) fn stat(pid: u32) -> ProcResult<Stat> {
    let pid = i32::try_from(pid).map_err(|_| ProcError::NotFound(None))?;
    Process::new(pid)?.stat()
}

/// Whether the process has exited and was not reaped yet. While another of its threads is about to end, its sockets are
/// still open, although the state is that of its first thread.
pub(crate) fn is_zombie(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1
}

fn io_error(error: ProcError) -> io::Error {
    if matches!(error, ProcError::NotFound(_)) { ErrorKind::NotFound.into() } else { io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn this_process_is_alive_and_keeps_its_id() {
        let this = ProcessId::of_this_process().unwrap();
        assert!(this.alive());
        assert_eq!(this, ProcessId::of(std::process::id()).unwrap());
        assert!(this.start_time > 0 && this.boot_id.len() == 36, "{this:?}");
    }

    #[tokio::test]
    async fn a_zombie_has_exited() {
        let mut child = sleeper();
        let id = ProcessId::of(child.id()).unwrap();
        assert!(id.alive());
        id.signal(Signal::KILL).unwrap();
        id.ended().await;
        assert!(fs::exists(format!("/proc/{}", child.id())).unwrap(), "it was not reaped");
        assert!(!id.alive());
        assert_eq!(id.signal(Signal::KILL).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(ProcessId::of(child.id()).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(ProcessId::of_child(child.id()).unwrap(), id);
        child.wait().unwrap();
        assert_eq!(ProcessId::of_child(child.id()).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_reused_pid_gets_no_signal_and_counts_as_exited() {
        let mut child = sleeper();
        let present = ProcessId::of(child.id()).unwrap();
        let earlier = ProcessId { start_time: present.start_time - 1, ..present.clone() };
        let other_boot = ProcessId { boot_id: "another boot".to_owned(), ..present.clone() };
        for stale in [earlier, other_boot] {
            assert!(!stale.alive());
            assert_eq!(stale.signal(Signal::KILL).unwrap_err().kind(), ErrorKind::NotFound);
            stale.ended().await;
        }
        assert_eq!(child.try_wait().unwrap(), None, "the process that has the number now still runs");
        present.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
    }
}
