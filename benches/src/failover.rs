//! A whole run of the failover benchmark, from the cluster's start to the files it leaves.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lab::{Cluster, ClusterOptions, DATABASE, KeyWatch};

use crate::contenders::{self, Contender, Field};
use crate::event::Stage;
use crate::output::Output;
use crate::results::{Kind, Run};
use crate::{machine, plot, report};

/// Held latecomers are released at once, beside everybody else's sessions.
const MAX_CONNECTIONS: u32 = 500;
/// So many events may fail to be judged before the run is given up.
const SKIPS: usize = 3;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many switchovers.
    pub switchovers: usize,
    /// How many deaths of the leader.
    pub deaths: usize,
    /// Who takes part.
    pub contenders: Vec<Contender>,
    /// Where the results go.
    pub output: Output,
    /// Where the proxy's log and its own reports go, too.
    pub diagnosis: Option<PathBuf>,
    /// Settings of the proxy, `key=value`, for experiments.
    pub proxy_settings: Vec<String>,
}

/// Runs it, tells it as it goes, and leaves the results. They are written after every event, so that a run that breaks
/// off leaves what it had.
///
/// # Errors
/// When the cluster or a contender does not start, when more than a few events fail, or a file cannot be written.
pub async fn run(plan: &Plan, out: &mut impl Write) -> Result<Run> {
    writeln!(out, "Starting the cluster and {} contenders …", plan.contenders.len())?;
    let cluster = Cluster::start(ClusterOptions {
        data_links: false,
        max_connections: MAX_CONNECTIONS,
        ..ClusterOptions::default()
    })
    .await?;
    sign_rows(&cluster).await?;
    let field = Field::start(&cluster, &plan.contenders, &plan.proxy_settings).await?;
    let keys = KeyWatch::start(&cluster).await?;
    let mut run = Run {
        machine: machine::describe(&cluster).await?,
        settings: contenders::settings(&cluster, &plan.proxy_settings),
        contenders: plan.contenders.iter().map(|contender| contender.name().to_owned()).collect(),
        events: Vec::new(),
        skipped: Vec::new(),
    };
    let stage = Stage { cluster: &cluster, field: &field, keys: &keys };
    for (number, kind) in (1..).zip(order(plan.switchovers, plan.deaths)) {
        match stage.play(number, kind).await {
            Ok(event) => {
                writeln!(out, "{}", report::event(&event))?;
                run.events.push(event);
            }
            Err(error) => {
                writeln!(out, "{number}. not judged: {error:#}")?;
                run.skipped.push(format!("event {number}: {}", error.root_cause()));
                ensure!(run.skipped.len() <= SKIPS, "{} events could not be judged", run.skipped.len());
            }
        }
        out.flush()?;
        plan.output.save(&run)?;
        if let Some(directory) = &plan.diagnosis {
            diagnose(&field, directory).await?;
        }
    }
    show(&run, plan)?;
    writeln!(out, "{}", report::text(&run))?;
    Ok(run)
}

/// Makes tables, page and picture anew from the JSON of an earlier run.
///
/// # Errors
/// When there is none, or a file cannot be written.
pub fn show_again(plan: &Plan, out: &mut impl Write) -> Result<()> {
    let run: Run = plan.output.load()?;
    show(&run, plan)?;
    writeln!(out, "{}", report::text(&run))?;
    Ok(())
}

/// Every row says which contender wrote it.
async fn sign_rows(cluster: &Cluster) -> Result<()> {
    let leader = cluster.leader().await?.context("nobody holds the leader key")?;
    cluster
        .superuser(&leader, DATABASE)
        .await?
        .batch_execute("alter table writes add contender text default current_setting('application_name')")
        .await
        .context("adding the contender's name to the rows")
}

/// The deaths spread evenly between the switchovers.
fn order(switchovers: usize, deaths: usize) -> Vec<Kind> {
    let all = switchovers + deaths;
    let died_by = |event: usize| event * deaths / all.max(1);
    let kind = |event| if died_by(event + 1) > died_by(event) { Kind::Death } else { Kind::Switchover };
    (0..all).map(kind).collect()
}

fn show(run: &Run, plan: &Plan) -> Result<()> {
    plot::draw(run, &plan.output.picture())?;
    plan.output.show(&report::markdown(run))
}

async fn diagnose(field: &Field, directory: &Path) -> Result<()> {
    let Some(proxy) = &field.proxy else { return Ok(()) };
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    fs::write(directory.join("proxy.log"), proxy.log()?).context("copying the proxy's log")?;
    for page in ["failovers", "routing", "metrics"] {
        let answer =
            proxy.get(&format!("/{page}")).await.map_or_else(|error| error.to_string(), |got| got.body);
        fs::write(directory.join(page), answer).with_context(|| format!("copying the proxy's /{page}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_spread_between_switchovers() {
        use Kind::{Death, Switchover};
        assert_eq!(order(2, 1), [Switchover, Switchover, Death]);
        assert_eq!(order(10, 5).iter().filter(|kind| **kind == Death).count(), 5);
        assert_eq!(order(0, 2), [Death, Death]);
        assert!(order(0, 0).is_empty());
    }
}
