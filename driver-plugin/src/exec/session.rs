//! The session of a command (setsid(2)): the command and what it has started, in whatever process groups.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use procfs::process::{Stat, all_processes};
use rustix::process::{Pid, Signal, kill_process};

use crate::process_id::{ProcessId, is_zombie};

/// How long processes may take to end after SIGKILL.
const KILL_TIME: Duration = Duration::from_secs(2);
/// The pause between two looks at them.
const KILL_POLL: Duration = Duration::from_millis(5);

/// A session, known by the process that leads it.
#[derive(Clone, Debug)]
pub(super) struct Session(ProcessId);

impl Session {
    /// The session that a child process, which was not waited for yet, leads or will lead.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn of_child(pid: u32) -> io::Result<Self> {
        ProcessId::of_child(pid).map(Self)
    }

    /// Kills every process in it, and those that they start meanwhile. A process that has left the session is not
    /// found. Blocks for up to two seconds.
    pub(super) fn kill(&self) {
        let deadline = Instant::now() + KILL_TIME;
        loop {
            let members = self.members();
            if members.is_empty() || Instant::now() >= deadline {
                return;
            }
            for member in members {
                // One that has ended already is no error.
                let _ = Pid::from_raw(member.pid).map(|pid| kill_process(pid, Signal::KILL));
            }
            thread::sleep(KILL_POLL);
        }
    }

    /// The processes that run in it. Empty once another session has its number: that is given to a new process only when
    /// this session is empty.
    fn members(&self) -> Vec<Stat> {
        let processes = all_processes().into_iter().flatten().flatten();
        let stats = processes.filter_map(|process| process.stat().ok());
        let is_member = |stat: &Stat| u32::try_from(stat.session) == Ok(self.0.pid) && !is_zombie(stat);
        let members: Vec<Stat> = stats.filter(is_member).collect();
        let is_other = |stat: &Stat| stat.pid == stat.session && stat.starttime != self.0.start_time;
        if members.iter().any(is_other) { Vec::new() } else { members }
    }
}
