//! From HAProxy to the proxy on the same port, and back, while clients write.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::gate;
use crate::jobs::ROLLBACK;
use crate::layout::Layout;
use crate::writers::{Report, Writers};

/// The job that is replaced.
pub const HAPROXY: &str = "pg-haproxy";
/// The job that replaces it.
pub const PROXY: &str = "pg-leader-proxy";
/// The proxy beside HAProxy, on ports of its own.
const REHEARSAL: &str = "pg-leader-proxy-rehearsal";
/// How far its ports are from the others.
const SHIFT: u16 = 10_000;

/// A stop takes kill_timeout (2 s), and then keep_listening (10 s) until the kernel takes no more connects; with a margin.
const FREED: Duration = Duration::from_secs(30);
/// The one that comes has to serve within this time, or the other one runs again.
const UP: Duration = Duration::from_secs(60);
/// It serves; Nomad calls its deployment successful some seconds later.
const SETTLED: Duration = Duration::from_secs(120);
const LONGEST_GAP: Duration = Duration::from_secs(60);

/// Runs the proxy on other ports beside HAProxy, and takes it away again.
///
/// # Errors
/// When its gate does not pass.
pub fn rehearse(layout: &Layout) -> Result<()> {
    let shell = layout.shell;
    // A job reads only the variable of its own name.
    let path = format!("nomad/jobs/{REHEARSAL}");
    if !shell.dry_run {
        let password = layout.nomad.secret("nomad/jobs/pg-leader-proxy", "probe_password")?;
        layout.nomad.put_variable(&path, &[("probe_password", password)].into())?;
    }
    let port = |port: u16| (port + SHIFT).to_string();
    let (write, read, admin) =
        (port(layout.site.write_port), port(layout.site.read_port), port(layout.site.admin_port));
    layout.run_job(
        PROXY,
        &[("job_name", REHEARSAL), ("write_port", &write), ("read_port", &read), ("admin_port", &admin)],
    )?;
    let passed = gate::proxy(layout, layout.site.write_port + SHIFT, UP).pass(layout);
    shell.act(&["nomad", "job", "stop", "-yes", "-purge", REHEARSAL])?;
    shell.act(&["nomad", "var", "purge", &path])?;
    passed
}

/// Replaces HAProxy by the proxy. When the proxy's gate does not pass in time, HAProxy is run again.
///
/// # Errors
/// When it was not done; the error says whether HAProxy serves again.
pub fn cut_over(layout: &Layout) -> Result<()> {
    gate::etcd(layout, UP).pass(layout)?;
    gate::database(layout, UP).pass(layout)?;
    swap(layout, (HAPROXY, PROXY), |layout| {
        layout.run_job(PROXY, &[])?;
        gate::proxy(layout, layout.site.write_port, UP).pass(layout)?;
        gate::job(layout, PROXY, 2, SETTLED).pass(layout)
    })
}

/// Replaces the proxy by HAProxy.
///
/// # Errors
/// When it was not done; the error says whether the proxy serves again.
pub fn roll_back(layout: &Layout) -> Result<()> {
    swap(layout, (PROXY, HAPROXY), |layout| {
        layout.run_job(ROLLBACK, &[])?;
        gate::job(layout, HAPROXY, 2, SETTLED).pass(layout)
    })
}

/// Stops one, starts the other while clients write, and undoes it when the other does not serve.
fn swap(layout: &Layout, (from, to): (&str, &str), start: impl Fn(&Layout) -> Result<()>) -> Result<()> {
    let port = layout.site.write_port;
    let before = if layout.shell.dry_run { None } else { layout.nomad.job(from)? };
    let writers = if before.is_some() { Some(Writers::start(layout, port)?) } else { None };
    if let Some(writers) = &writers {
        writers
            .wait_for(100, UP)
            .with_context(|| format!("before anything was changed: {from} does not serve writes"))?;
    }
    layout.stop_job(from)?;
    let swapped =
        gate::silent(layout, port, FREED).pass(layout).and_then(|()| start(layout)).and_then(|()| {
            match &writers {
                Some(writers) => writers.wait_for(100, UP),
                None => Ok(()),
            }
        });
    match swapped {
        Ok(()) => match writers {
            Some(writers) => told(layout, writers, &format!("{from} -> {to}"))?.check(LONGEST_GAP),
            None => Ok(()),
        },
        Err(error) => {
            layout.shell.say(&format!("  {to} does not serve: {error:#}"));
            let Some(before) = before else {
                return Err(
                    error.context(format!("{to} was not taken, and there was no {from} to go back to"))
                );
            };
            undo(layout, (from, to), &before)?;
            if let Some(writers) = writers {
                writers
                    .wait_for(100, UP)
                    .with_context(|| format!("{from} runs again and serves no writes"))?;
                // However long it was: that the other one does not serve is the error, not the gap.
                told(layout, writers, &format!("{from} -> {to}, undone"))?.check(Duration::MAX)?;
            }
            Err(error.context(format!("{to} was not taken; {from} serves again")))
        }
    }
}

fn told(layout: &Layout, writers: Writers, name: &str) -> Result<Report> {
    let report = writers.stop(layout)?;
    report.tell(layout, name)?;
    Ok(report)
}

/// The one that was stopped runs again as it was: it need not be the one of this folder.
fn undo(layout: &Layout, (from, to): (&str, &str), before: &Value) -> Result<()> {
    layout.stop_job(to)?;
    gate::silent(layout, layout.site.write_port, FREED).pass(layout)?;
    layout.nomad.run_again(before)?;
    gate::job(layout, from, 2, SETTLED)
        .pass(layout)
        .with_context(|| format!("NEITHER serves: run {from} by hand"))
}
