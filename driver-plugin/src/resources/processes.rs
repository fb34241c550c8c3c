//! Processes as /proc shows them (proc(5)), and their end.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What the writer of a `cgroup.procs` calls itself.
pub(super) const MYSELF: &str = "0";

/// How long the processes of a group may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(2);
const KILL_POLL: Duration = Duration::from_millis(5);

/// Where /proc is.
#[derive(Clone, Debug)]
pub(super) struct Proc(PathBuf);

/// One line of /proc/<pid>/stat, as far as it is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// Clock ticks after boot. Together with the pid it names a process once and for all.
    pub(super) start: u64,
    /// It has ended, and its parent has not asked for its status yet.
    pub(super) ended: bool,
    /// Time of its own threads.
    pub(super) own: Modes,
    /// Time of its children that have ended and been waited for, and of theirs.
    pub(super) children: Modes,
}

/// Processor time by mode, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Modes {
    pub(super) user: u64,
    pub(super) system: u64,
}

impl Proc {
    pub(super) fn here() -> Self {
        Self(PathBuf::from("/proc"))
    }

    /// None when there is no such process.
    pub(super) fn stat(&self, pid: u32) -> Option<Stat> {
        parse(&fs::read_to_string(self.0.join(pid.to_string()).join("stat")).ok()?)
    }

    /// The text of /proc/<pid>/status.
    pub(super) fn status(&self, pid: u32) -> Option<String> {
        fs::read_to_string(self.0.join(pid.to_string()).join("status")).ok()
    }

    /// The time of as many clock ticks.
    pub(super) fn duration(ticks: u64) -> Duration {
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second))
    }
}

/// SIGKILL for each of them. Who is gone already is no error.
pub(super) fn kill_each(pids: &[u32]) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Kills until nobody is listed that still runs. A list that has vanished has nobody in it.
pub(super) fn kill_until_empty(
    list: impl Fn() -> io::Result<Vec<u32>>,
    kill: impl Fn(&[u32]),
) -> io::Result<()> {
    let proc = Proc::here();
    let deadline = Instant::now() + KILL_LIMIT;
    loop {
        let mut left = match list() {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        left.retain(|pid| proc.stat(*pid).is_some_and(|stat| !stat.ended));
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let text = format!("processes {left:?} are still there {KILL_LIMIT:?} after SIGKILL");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        kill(&left);
        thread::sleep(KILL_POLL);
    }
}

fn parse(line: &str) -> Option<Stat> {
    // The name is in parentheses and may contain anything, parentheses too.
    let (pid, rest) = line.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Numbered as in proc(5), where the state is the third.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: u32::try_from(number(4)?).ok()?,
        start: number(22)?,
        ended: matches!(*fields.first()?, "Z" | "X" | "x"),
        own: Modes { user: number(14)?, system: number(15)? },
        children: Modes { user: number(16)?, system: number(17)? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_confuses_nobody() {
        let line = "4711 (a) b (c) S 12 4711 4711 0 -1 4194560 1 2 0 0 30 7 5 3 20 0 2 0 8159 1 2 3";
        let expected = Stat {
            pid: 4711,
            parent: 12,
            start: 8159,
            ended: false,
            own: Modes { user: 30, system: 7 },
            children: Modes { user: 5, system: 3 },
        };
        assert_eq!(parse(line), Some(expected));
        assert!(parse(&line.replace(") S", ") Z")).is_some_and(|stat| stat.ended));
        assert_eq!(parse("4711 (a) S 12"), None);
    }

    #[test]
    fn this_process_is_there_and_runs() {
        let stat = Proc::here().stat(std::process::id()).unwrap();
        assert_eq!(stat.pid, std::process::id());
        assert!(stat.start > 0 && !stat.ended);
        assert!(Proc::here().status(stat.pid).is_some_and(|status| status.contains("VmRSS:")));
    }

    #[test]
    fn who_cannot_be_killed_is_named_and_the_wait_has_an_end() {
        let myself = std::process::id();
        let error = kill_until_empty(|| Ok(vec![myself]), |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains(&myself.to_string()), "{error}");
    }

    #[test]
    fn a_group_that_has_vanished_has_nobody_in_it() {
        let gone = || Err(io::Error::from(io::ErrorKind::NotFound));
        assert!(kill_until_empty(gone, |_| ()).is_ok());
    }
}
