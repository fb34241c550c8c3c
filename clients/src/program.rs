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
    ensure!(success, "{client:?} failed:\n{output}");
    let lines = exactly(&output, &client.behaviours(route.server.major));
    lines.with_context(|| format!("{client:?} printed:\n{output}"))
}

/// Gives the `ok` lines, if there is one for each expected behaviour and for no other, and no line that says `FAILED`.
fn exactly(output: &str, expected: &[&str]) -> Result<Vec<String>> {
    let name = |line: &str| line.split(' ').nth(1).unwrap_or_default().to_owned();
    let lines: Vec<&str> = output.lines().filter(|line| line.starts_with("ok ")).collect();
    let shown: BTreeSet<String> = lines.iter().map(|line| name(line)).collect();
    let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
    ensure!(!output.lines().any(|line| line.starts_with("FAILED ")), "a behaviour failed");
    let missing: Vec<_> = expected.difference(&shown).collect();
    let surprising: Vec<_> = shown.difference(&expected).collect();
    ensure!(missing.is_empty(), "not shown: {missing:?}");
    ensure!(surprising.is_empty(), "shown, but not expected: {surprising:?}");
    ensure!(lines.len() == shown.len(), "a behaviour was shown twice");
    Ok(lines.into_iter().map(str::to_owned).collect())
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

#[cfg(test)]
mod tests {
    use super::exactly;

    #[test]
    fn less_or_more_or_failed_is_not_what_was_expected() {
        let expected = ["copy_in", "cancel"];
        assert_eq!(exactly("ok copy_in 3 rows\nabsent x: y\nok cancel\n", &expected).unwrap().len(), 2);
        assert!(exactly("ok copy_in 3 rows\n", &expected).is_err());
        assert!(exactly("ok copy_in\nok cancel\nok pipeline\n", &expected).is_err());
        assert!(exactly("ok copy_in\nok cancel\nok cancel\n", &expected).is_err());
        assert!(exactly("ok copy_in\nok cancel\nFAILED pipeline: no\n", &expected).is_err());
    }
}
