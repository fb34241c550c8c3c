//! Running a client program and holding it to the list of behaviours it must show.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::server::{APP, PASSWORD};
use crate::wait::wait_for;
use crate::{Client, Route, Scratch};

/// The connection string for `user` at `address`.
#[must_use]
pub fn url(address: SocketAddr, user: &str) -> String {
    let password: String = PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("postgresql://{user}:{password}@{address}/{APP}")
}

/// Runs a client's program against `route` and gives its lines, if it printed `ok` for exactly the behaviours it must show.
///
/// A program that shows less than expected fails as one that reports a failure: what was not shown was not tried.
///
/// # Errors
/// When it fails, shows another list, or takes too long; everything it wrote is in the error.
pub fn run(client: Client, route: &Route, large: u64) -> Result<Vec<String>> {
    let certificates = &route.server.certificates;
    let mut command = client.command()?;
    command.arg(url(route.address(), APP)).arg(&certificates.authority).arg(&certificates.stranger);
    command.arg(large.to_string());
    let (success, output) = finish(&mut command, BOUND)?;
    let shown: BTreeSet<&str> =
        output.lines().filter_map(|line| line.strip_prefix("ok ")?.split(' ').next()).collect();
    let expected: BTreeSet<&str> = client.behaviours(route.server.major).into_iter().collect();
    ensure!(success, "{client:?} failed:\n{output}");
    ensure!(
        shown == expected,
        "{client:?} did not show {:?}, and was not expected to show {:?}\n{output}",
        expected.difference(&shown).collect::<Vec<_>>(),
        shown.difference(&expected).collect::<Vec<_>>()
    );
    Ok(output.lines().filter(|line| line.starts_with("ok ")).map(str::to_owned).collect())
}

/// Runs any program to its end and gives what it wrote, provided that it succeeded.
///
/// # Errors
/// When it fails or takes longer than `bound`.
pub fn succeed(mut command: Command, bound: Duration) -> Result<String> {
    let (success, output) = finish(&mut command, bound)?;
    ensure!(success, "{command:?} failed:\n{output}");
    Ok(output)
}

fn finish(command: &mut Command, bound: Duration) -> Result<(bool, String)> {
    // A file cannot fill up as a pipe does, so nobody has to read while it runs.
    let scratch = Scratch::new("program")?;
    let log = File::create(scratch.join("output"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let status = wait_for("the end of the client program", bound, || Ok(child.try_wait()?));
    // Its helpers share its group; after a success there are none.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let output = fs::read_to_string(scratch.join("output")).context("read the program's output")?;
    match status {
        Ok(status) => Ok((status.success(), output)),
        Err(late) => {
            let _ = child.wait();
            bail!("{late:#}; so far:\n{output}")
        }
    }
}

/// For a whole program; each behaviour has a bound of its own.
const BOUND: Duration = Duration::from_secs(240);
