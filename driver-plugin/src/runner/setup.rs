//! What the process becomes before it is the proxy: cgroups, OOM score, directory, user.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{fchdir, geteuid, umask};
use rustix::thread::set_name;

use crate::safe_open;
use crate::supervisor::{LaunchSpec, StartError};

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// Sets the process up. The user changes last, because the other steps need root.
///
/// # Errors
/// The step that failed. Earlier steps are not undone.
pub(super) fn set_up(launch: &LaunchSpec) -> Result<(), StartError> {
    let LaunchSpec { alloc_dir, directory, account, cgroups, oom_score_adj, .. } = launch;
    cgroups
        .join()
        .map_err(|error| StartError::Transient(format!("cannot join the task's cgroup: {error}")))?;
    // The agent is usually protected from the OOM killer, and children inherit that.
    fs::write(OOM_SCORE_ADJ, oom_score_adj.to_string())
        .map_err(|error| fatal(format_args!("cannot set oom_score_adj to {oom_score_adj}"), &error))?;
    enter(alloc_dir, directory).map_err(|error| {
        fatal(format_args!("cannot change to the directory {}", directory.display()), &error)
    })?;
    umask(Mode::WGRP | Mode::WOTH);
    set_name(c"pg-leader-proxy")
        .map_err(|error| fatal(format_args!("cannot set the name of the process"), &error.into()))?;
    match account {
        Some(account) => account
            .assume()
            .map_err(|error| fatal(format_args!("cannot change to the user `{}`", account.label()), &error)),
        None if geteuid().is_root() => {
            Err(StartError::Fatal("the proxy faces the network and does not run as root".to_owned()))
        }
        None => Ok(()),
    }
}

/// Makes the task's directory the working directory. The task's user may not be allowed to enter the directories above
/// it, so this is done as root, which must not follow a symbolic link of that user.
fn enter(alloc_dir: &Path, directory: &Path) -> io::Result<()> {
    let opened = safe_open::open(alloc_dir, directory, OFlags::PATH | OFlags::DIRECTORY)?;
    Ok(fchdir(opened)?)
}

fn fatal(what: std::fmt::Arguments<'_>, error: &io::Error) -> StartError {
    StartError::Fatal(format!("{what}: {error}"))
}
