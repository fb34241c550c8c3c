//! What the process becomes before it is the proxy: cgroups, OOM score, directory, user.

use std::fs;
use std::io;

use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::set_name;

use crate::supervisor::{LaunchSpec, StartError};
use crate::user::Account;

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// Sets the process up. The user changes last, because the other steps need root.
///
/// # Errors
/// The step that failed. Earlier steps are not undone.
pub(super) fn set_up(launch: &LaunchSpec) -> Result<(), StartError> {
    let LaunchSpec { directory, user, cgroups, oom_score_adj, .. } = launch;
    let account = user.as_deref().map(Account::find).transpose();
    let account = account.map_err(|error| StartError::Fatal(error.to_string()))?;
    cgroups
        .join()
        .map_err(|error| StartError::Transient(format!("cannot join the task's cgroup: {error}")))?;
    // The agent is usually protected from the OOM killer, and children inherit that.
    fs::write(OOM_SCORE_ADJ, oom_score_adj.to_string())
        .map_err(|error| fatal(format_args!("cannot set oom_score_adj to {oom_score_adj}"), &error))?;
    std::env::set_current_dir(directory).map_err(|error| {
        fatal(format_args!("cannot change to the directory {}", directory.display()), &error)
    })?;
    umask(Mode::WGRP | Mode::WOTH);
    set_name(c"pg-leader-proxy")
        .map_err(|error| fatal(format_args!("cannot set the name of the process"), &error.into()))?;
    match (account, user) {
        (Some(account), Some(user)) => account
            .assume()
            .map_err(|error| fatal(format_args!("cannot change to the user `{user}`"), &error)),
        _ => Ok(()),
    }
}

fn fatal(what: std::fmt::Arguments<'_>, error: &io::Error) -> StartError {
    StartError::Fatal(format!("{what}: {error}"))
}
