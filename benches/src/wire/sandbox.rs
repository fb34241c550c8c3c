//! Where the programs of the benchmark run: on three hosts, in a directory, as a user. All of it goes with the benchmark.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Process, Reaper, User};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::hosts::{Host, Hosts, Network};

/// Descriptors that a process needs besides two for each session.
const OTHER_DESCRIPTORS: u64 = 200;

/// Hosts, directory and user.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) hosts: Hosts,
    user: User,
    reaper: Reaper,
}

impl Sandbox {
    /// Makes it, and raises the limit of open files of this process and its children.
    pub(crate) fn make(network: Network) -> Result<Self> {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
            .context("raising the limit of open files")?;
        let user = User::for_postgres()?;
        Ok(Self { hosts: Hosts::make(network)?, reaper: Reaper::start(&user)?, user })
    }

    /// The directory of the programs' files.
    pub(crate) fn directory(&self) -> &Path {
        self.reaper.directory()
    }

    /// The user that the programs run as.
    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// A command on a host, as that user.
    pub(crate) fn command(&self, host: &Host, program: &Path) -> Command {
        host.command(&self.user, program)
    }

    /// Starts a program. It logs to the file `NAME.log` in the directory.
    pub(crate) fn start(&self, name: &str, command: Command) -> Result<Process> {
        Process::start(&self.reaper, name, command, self.directory())
    }

    /// Runs a program to its end.
    pub(crate) fn run(&self, name: &str, command: Command, within: Duration) -> Result<()> {
        let mut process = self.start(name, command)?;
        let status = process.wait(within)?;
        ensure!(status.success(), "{name} ended ({status}):\n{}", process.log()?);
        Ok(())
    }

    /// Copies a program of this workspace to where that user can execute it.
    pub(crate) fn copy_program(&self, program: &Path, name: &str) -> Result<PathBuf> {
        let copy = self.directory().join(format!("{name}-program"));
        std::fs::copy(program, &copy).with_context(|| format!("copying {}", program.display()))?;
        Ok(copy)
    }
}

/// As many of `wanted` sessions as one process can have here, with two descriptors each.
pub(crate) fn sessions_possible(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).maximum;
    let possible = limit.map_or(u64::MAX, |limit| limit.saturating_sub(OTHER_DESCRIPTORS) / 2);
    // Rounded down to whole hundreds.
    let possible = usize::try_from(possible).unwrap_or(usize::MAX);
    if wanted <= possible { wanted } else { possible / 100 * 100 }
}
