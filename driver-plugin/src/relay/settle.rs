//! How a process becomes the relay of a task: its groups, directory, user and worth.

use std::fs;
use std::io;

use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::set_name;

use crate::supervisor::StartError;
use crate::supervisor::protocol::Settlement;
use crate::user::Account;

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// Becomes it. Whatever takes root comes before the user changes.
///
/// # Errors
/// What could not be done; half of it may have been.
pub(super) fn settle(settlement: &Settlement) -> Result<(), StartError> {
    let Settlement { directory, user, cgroups, oom_score_adj, settings: _ } = settlement;
    let account = user.as_deref().map(Account::find).transpose();
    let account = account.map_err(|error| StartError::Fatal(error.to_string()))?;
    cgroups
        .join()
        .map_err(|error| StartError::Transient(format!("cannot join the task's cgroup: {error}")))?;
    // The agent is protected as a rule, and the protection is inherited.
    fs::write(OOM_SCORE_ADJ, oom_score_adj.to_string())
        .map_err(|error| fatal(format_args!("cannot set the oom_score_adj {oom_score_adj}"), &error))?;
    std::env::set_current_dir(directory)
        .map_err(|error| fatal(format_args!("cannot work in {}", directory.display()), &error))?;
    umask(Mode::WGRP | Mode::WOTH);
    set_name(c"pg-leader-proxy").map_err(|error| fatal(format_args!("cannot be named"), &error.into()))?;
    match (account, user) {
        (Some(account), Some(user)) => {
            account.assume().map_err(|error| fatal(format_args!("cannot become the user `{user}`"), &error))
        }
        _ => Ok(()),
    }
}

fn fatal(what: std::fmt::Arguments<'_>, error: &io::Error) -> StartError {
    StartError::Fatal(format!("{what}: {error}"))
}
