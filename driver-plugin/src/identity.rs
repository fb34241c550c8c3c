//! Which process a number means: pid, start time and boot id, so that a reused pid is never mistaken.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// The kernel makes a new one at every boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Where the start time stands behind the name of the process: it is field 22 of `/proc/PID/stat`, and the first field
/// behind the name is field 3 (proc_pid_stat(5)).
const START_TIME: usize = 22 - 3;
/// How often it is looked whether a process has ended. (tokio has no safe way to wait for a descriptor of one.)
const LOOK: Duration = Duration::from_millis(10);

/// One process, and never another one that got its number later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks after the boot.
    pub start_time: u64,
    /// In which boot it runs.
    pub boot_id: String,
}

impl Identity {
    /// The process that has the number `pid` now.
    ///
    /// # Errors
    /// `NotFound` when there is none, or it has ended and nobody has reaped it yet; else what the operating system says.
    pub fn of(pid: u32) -> io::Result<Self> {
        let (running, identity) = Self::read(pid)?;
        if running { Ok(identity) } else { Err(ErrorKind::NotFound.into()) }
    }

    /// The child process that has the number `pid` and that its parent, this process, has not reaped: it may have ended.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of_child(pid: u32) -> io::Result<Self> {
        Self::read(pid).map(|(_, identity)| identity)
    }

    /// This process.
    ///
    /// # Errors
    /// What the operating system says: `/proc` is not mounted, for one.
    pub fn of_this_process() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// Whether the process runs. One that has ended and waits to be reaped does not. What cannot be looked at, because
    /// there is no descriptor left for one, may run.
    pub fn alive(&self) -> bool {
        match Self::of(self.pid) {
            Ok(present) => present == *self,
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    /// Sends a signal to this process and to no other.
    ///
    /// # Errors
    /// `NotFound` when the process has ended; else what the operating system says.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(self.open()?, signal)?)
    }

    /// Waits until the process has ended.
    pub async fn ended(&self) {
        while self.alive() {
            sleep(LOOK).await;
        }
    }

    /// The process, and whether it runs.
    fn read(pid: u32) -> io::Result<(bool, Self)> {
        let stat = fs::read(format!("/proc/{pid}/stat")).map_err(|error| match error.raw_os_error() {
            // It was reaped between the opening and the reading.
            Some(code) if code == rustix::io::Errno::SRCH.raw_os_error() => ErrorKind::NotFound.into(),
            _ => error,
        })?;
        let senseless = || io::Error::new(ErrorKind::InvalidData, format!("/proc/{pid}/stat makes no sense"));
        let (state, start_time) = parse(&stat).ok_or_else(senseless)?;
        let boot_id = fs::read_to_string(BOOT_ID)?.trim().to_owned();
        Ok((!matches!(state, "Z" | "X"), Self { pid, start_time, boot_id }))
    }

    /// A descriptor of the process: opened first and compared afterwards, so that the number cannot change its meaning
    /// in between.
    fn open(&self) -> io::Result<OwnedFd> {
        let gone = || io::Error::new(ErrorKind::NotFound, "the process has ended");
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| match errno {
            rustix::io::Errno::SRCH => gone(),
            errno => errno.into(),
        })?;
        if Self::of(self.pid)? == *self { Ok(pidfd) } else { Err(gone()) }
    }
}

/// State and start time. The name before them is in parentheses, and may itself hold parentheses, blanks and newlines.
fn parse(stat: &[u8]) -> Option<(&str, u64)> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let start_time = fields.nth(START_TIME - 1)?.parse().ok()?;
    Some((state, start_time))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn a_name_may_hold_parentheses_blanks_and_newlines() {
        let behind = "S 1 2 3 0 -1 4194560 100 0 0 0 1 2 3 4 20 0 1 0 987654 1000 10";
        for name in ["sleep", "a) R 1 (b", ")", "x\ny) Z", "\u{1F4A9}"] {
            let stat = format!("42 ({name}) {behind}");
            assert_eq!(parse(stat.as_bytes()), Some(("S", 987_654)), "{name:?}");
        }
        assert_eq!(parse(b"42 (\xff\xfe) R 1 2 3"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn this_process_is_alive_and_stays_the_same() {
        let this = Identity::of_this_process().unwrap();
        assert!(this.alive());
        assert_eq!(this, Identity::of(std::process::id()).unwrap());
        assert!(this.start_time > 0 && this.boot_id.len() == 36, "{this:?}");
    }

    #[tokio::test]
    async fn a_process_that_nobody_has_reaped_yet_has_ended() {
        let mut child = sleeper();
        let identity = Identity::of(child.id()).unwrap();
        assert!(identity.alive());
        identity.signal(Signal::KILL).unwrap();
        identity.ended().await;
        assert!(fs::exists(format!("/proc/{}", child.id())).unwrap(), "it has not been reaped");
        assert!(!identity.alive());
        assert_eq!(identity.signal(Signal::KILL).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(Identity::of(child.id()).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(Identity::of_child(child.id()).unwrap(), identity);
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_reused_pid_gets_no_signal_and_counts_as_ended() {
        let mut child = sleeper();
        let present = Identity::of(child.id()).unwrap();
        let earlier = Identity { start_time: present.start_time - 1, ..present.clone() };
        let other_boot = Identity { boot_id: "of another boot".to_owned(), ..present.clone() };
        for stale in [earlier, other_boot] {
            assert!(!stale.alive());
            assert_eq!(stale.signal(Signal::KILL).unwrap_err().kind(), ErrorKind::NotFound);
            stale.ended().await;
        }
        assert_eq!(child.try_wait().unwrap(), None, "the process that has the number now goes on");
        present.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
    }
}
