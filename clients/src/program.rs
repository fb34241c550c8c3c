//! Runs a client program and compares what it shows with the behaviours that it must show.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::retry;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::server::{APP, PASSWORD};
use crate::{Client, Testbed};

/// For a whole program; each of its behaviours has a shorter bound.
const BOUND: Duration = Duration::from_secs(240);

/// The connection string for `user` at `address`.
fn url(address: SocketAddr, user: &str) -> String {
    let password: String = PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("postgresql://{user}:{password}@{address}/{APP}")
}

/// Runs a client's program against `testbed`. Returns its lines if it printed `ok` for exactly the behaviours that it must
/// show: a behaviour without a line was not tried, which is a failure too. `large` is the size of the large result in
/// bytes.
///
/// # Errors
/// When it fails, shows other behaviours, or takes too long. The error has all its output.
pub fn run(client: Client, testbed: &Testbed, large: u64) -> Result<Vec<String>> {
    let server = &testbed.server;
    let mut command = client.command()?;
    command.arg(url(testbed.address(), APP)).arg(&server.ca).arg(&server.other_ca);
    command.arg(large.to_string());
    let (success, output) = finish(&mut command, BOUND)?;
    ensure!(success, "{client:?} failed:\n{output}");
    let lines = exactly(&output, &client.behaviours(server.major));
    lines.with_context(|| format!("{client:?} printed:\n{output}"))
}

/// The `ok` lines, if there is one for each expected behaviour and for no other, and no `FAILED` line.
fn exactly(output: &str, expected: &[&str]) -> Result<Vec<String>> {
    let name = |line: &str| line.split(' ').nth(1).unwrap_or_default().to_owned();
    let lines: Vec<&str> = output.lines().filter(|line| line.starts_with("ok ")).collect();
    let shown: BTreeSet<String> = lines.iter().map(|line| name(line)).collect();
    let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
    ensure!(!output.lines().any(|line| line.starts_with("FAILED ")), "a behaviour failed");
    let missing: Vec<_> = expected.difference(&shown).collect();
    let unexpected: Vec<_> = shown.difference(&expected).collect();
    ensure!(missing.is_empty(), "not shown: {missing:?}");
    ensure!(unexpected.is_empty(), "shown, but not expected: {unexpected:?}");
    ensure!(lines.len() == shown.len(), "a behaviour was shown twice");
    Ok(lines.into_iter().map(str::to_owned).collect())
}

/// Runs any program to its end and returns its output, if it succeeded.
///
/// # Errors
/// When it fails or takes longer than `bound`.
pub fn succeed(mut command: Command, bound: Duration) -> Result<String> {
    let (success, output) = finish(&mut command, bound)?;
    ensure!(success, "{command:?} failed:\n{output}");
    Ok(output)
}

fn finish(command: &mut Command, bound: Duration) -> Result<(bool, String)> {
    // A file, because a pipe would fill up unless somebody reads it.
    let directory = TempDir::with_prefix("pglp-client-").context("making a directory")?;
    let file = directory.path().join("output");
    let log = File::create(&file)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let status =
        retry("the end of the client program", bound, || child.try_wait()?.context("it is still running"));
    // Its children are in its group. After a success there are none.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let output = fs::read_to_string(&file).context("read the program's output")?;
    match status {
        Ok(status) => Ok((status.success(), output)),
        Err(late) => {
            let _ = child.wait();
            bail!("{late:#}; so far:\n{output}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::exactly;

    #[test]
    fn only_exactly_the_expected_behaviours_are_accepted() {
        let expected = ["copy_in", "cancel"];
        assert_eq!(exactly("ok copy_in 3 rows\nabsent x: y\nok cancel\n", &expected).unwrap().len(), 2);
        assert!(exactly("ok copy_in 3 rows\n", &expected).is_err());
        assert!(exactly("ok copy_in\nok cancel\nok pipeline\n", &expected).is_err());
        assert!(exactly("ok copy_in\nok cancel\nok cancel\n", &expected).is_err());
        assert!(exactly("ok copy_in\nok cancel\nFAILED pipeline: no\n", &expected).is_err());
    }
}
