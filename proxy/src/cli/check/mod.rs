//! `check`: every error of a configuration, and on request whether etcd, the servers and the addresses are as it says.

mod etcd;
mod findings;
mod listeners;
mod servers;

use std::io::Write;

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit};
use tokio::runtime;

use super::exit::Exit;
use crate::app::{SET_ASIDE, static_member};
use crate::config::{Config, LeaderSource, Origins};
use findings::Findings;

/// Checks the configuration; with `connect` also etcd, the servers, the addresses and the limit of open files.
pub(super) fn check(
    origins: &Origins,
    connect: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let config = match Config::load_in_time(origins)? {
        Ok(config) => config,
        Err(errors) => {
            for error in errors.iter() {
                writeln!(err, "{error}")?;
            }
            let count = errors.iter().count();
            writeln!(err, "configuration: {count} {}", if count == 1 { "error" } else { "errors" })?;
            return Ok(Exit::Configuration);
        }
    };
    let mut findings = Findings::new(out);
    findings.ok("configuration", "valid")?;
    for renamed in &config.renamed {
        findings.warning("configuration", &renamed.to_string())?;
    }
    if !connect {
        return Ok(Exit::Success);
    }
    descriptors(&config, &mut findings)?;
    listeners::check(&config, &mut findings)?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(cluster(&config, &mut findings))?;
    Ok(if findings.passed() { Exit::Success } else { Exit::Failure })
}

async fn cluster(config: &Config, findings: &mut Findings<'_>) -> anyhow::Result<()> {
    let (members, system_id) = match &config.leader_source {
        LeaderSource::Members(members) => (members.iter().map(static_member).collect(), None),
        LeaderSource::Etcd(etcd) => etcd::check(etcd, config.policy.options().on_dcs_loss, findings).await?,
    };
    servers::check(&config.probe, &members, system_id, findings).await
}

/// Each session takes two descriptors.
fn descriptors(config: &Config, findings: &mut Findings<'_>) -> anyhow::Result<()> {
    let needed = 2 * config.session.max_sessions as u64 + SET_ASIDE;
    let sessions = config.session.max_sessions;
    match getrlimit(Resource::Nofile).maximum {
        Some(limit) if limit < needed => findings.warning(
            "open files",
            &format!(
                "the limit is {limit}, and {sessions} sessions need {needed}; raise it (LimitNOFILE, ulimit -n) or \
                 lower session.max_sessions"
            ),
        )?,
        _ => findings.ok("open files", &format!("enough for {sessions} sessions"))?,
    }
    Ok(())
}
