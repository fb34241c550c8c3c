//! The gates of Nomad's jobs: as many allocations as wanted, one at most, the last run successful, every instance well.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Gate;
use crate::http;
use crate::layout::Layout;
use crate::nomad::Allocation;

/// So many allocations run, the deployment of the job's version is successful, and none was restarted since the gate began.
#[must_use]
pub fn job<'a>(layout: &'a Layout, name: &str, count: usize, within: Duration) -> Gate<'a> {
    let name = name.to_owned();
    let mut restarts: Option<BTreeMap<String, u64>> = None;
    Gate::new(format!("job {name} {count}/{count}"), within, move || {
        let allocations = layout.nomad.allocations(&name)?;
        let running: Vec<_> = allocations.iter().filter(|allocation| allocation.runs()).collect();
        let now: BTreeMap<_, _> =
            running.iter().map(|allocation| (allocation.id.clone(), allocation.restarts())).collect();
        let before = restarts.get_or_insert_with(|| now.clone());
        if let Some((id, _)) = now.iter().find(|(id, count)| before.get(*id).is_some_and(|then| then < count))
        {
            bail!("the allocation {id} is being restarted: {}", words_of(&allocations, id));
        }
        ensure!(running.len() == count, "{} of {count} run; {}", running.len(), newest(&allocations));
        deployed(layout, &name)?;
        Ok(running.iter().map(|allocation| allocation.node_name.as_str()).collect::<Vec<_>>().join(", "))
    })
}

fn words_of(allocations: &[Allocation], id: &str) -> String {
    allocations.iter().find(|allocation| allocation.id == id).map(Allocation::last_words).unwrap_or_default()
}

/// What the newest allocation says of itself.
fn newest(allocations: &[Allocation]) -> String {
    let newest = allocations.iter().max_by_key(|allocation| allocation.create_index);
    newest.map_or_else(
        || "no allocation: `nomad job status` names the constraint".to_owned(),
        |allocation| {
            format!(
                "the newest is {} on {}: {}",
                allocation.client_status,
                allocation.node_name,
                allocation.last_words()
            )
        },
    )
}

/// Service jobs, and system jobs from Nomad 1.11 on, have deployments.
fn deployed(layout: &Layout, name: &str) -> Result<()> {
    let deployment = layout.nomad.api(&format!("/v1/job/{name}/deployment"))?;
    if deployment.is_null() {
        return Ok(());
    }
    let job = layout.nomad.api(&format!("/v1/job/{name}"))?;
    ensure!(
        deployment["JobVersion"] == job["Version"],
        "the deployment of version {} has not begun",
        job["Version"]
    );
    let status = deployment["Status"].as_str().unwrap_or_default();
    ensure!(status == "successful", "the deployment is {status}: {}", deployment["StatusDescription"]);
    Ok(())
}

/// For two minutes, or the given time if that is shorter, never more than one allocation is live; at the end one runs.
#[must_use]
pub fn singleton<'a>(layout: &'a Layout, name: &str, watched: Duration) -> Gate<'a> {
    let name = name.to_owned();
    let until = Instant::now() + watched.min(Duration::from_secs(120));
    let mut most = 0;
    Gate::new(format!("never two of {name}"), watched + Duration::from_secs(60), move || {
        let allocations = layout.nomad.allocations(&name)?;
        let live = allocations.iter().filter(|allocation| allocation.is_live()).count();
        most = most.max(live);
        ensure!(Instant::now() >= until, "{live} live");
        // It is told at the end, and not only waited for, so that a second one is not overlooked later.
        ensure!(most <= 1, "{most} were live at one time");
        ensure!(live == 1, "{live} live at the end; {}", newest(&allocations));
        Ok(format!("1, and never more within {} s", watched.as_secs()))
    })
}

/// The newest allocation of a batch job, or of a periodic job's newest child, has ended well.
#[must_use]
pub fn finished<'a>(layout: &'a Layout, name: &str, within: Duration) -> Gate<'a> {
    let name = name.to_owned();
    Gate::new(format!("the last run of {name}"), within, move || {
        let run = last_run(layout, &name)?;
        let allocations = layout.nomad.allocations(&run)?;
        let newest_one = allocations
            .iter()
            .max_by_key(|allocation| allocation.create_index)
            .context("no allocation yet")?;
        ensure!(newest_one.client_status == "complete", "{run}: {}", newest(&allocations));
        Ok(format!("{run} has ended well on {}", newest_one.node_name))
    })
}

/// The newest child of a periodic job, or the job itself.
fn last_run(layout: &Layout, name: &str) -> Result<String> {
    let prefix = format!("{name}/periodic-");
    let jobs = layout.nomad.api(&format!("/v1/jobs?prefix={name}"))?;
    let ids = jobs.as_array().into_iter().flatten().filter_map(|job| job["ID"].as_str());
    let newest =
        ids.filter(|id| *id == name || id.starts_with(&prefix)).max_by_key(|id| (id.len(), id.to_owned()));
    newest.map(|id| id.replace('/', "%2F")).with_context(|| format!("there is no job {name}"))
}

/// Every running instance answers this path with 200, at the address of its first port.
#[must_use]
pub fn endpoint<'a>(layout: &'a Layout, name: &str, path: &str, within: Duration) -> Gate<'a> {
    let (name, path) = (name.to_owned(), path.to_owned());
    Gate::new(format!("{path} of {name}"), within, move || {
        let mut asked = Vec::new();
        for allocation in layout.nomad.allocations(&name)?.iter().filter(|allocation| allocation.runs()) {
            let whole = layout.nomad.api(&format!("/v1/allocation/{}", allocation.id))?;
            let address = first_port(&whole).with_context(|| format!("{} has no port", allocation.id))?;
            let (status, body) = http::get(&format!("http://{address}{path}"))?;
            ensure!(
                status == 200,
                "{address}{path}: status {status}, {}",
                body.chars().take(200).collect::<String>()
            );
            asked.push(address);
        }
        ensure!(!asked.is_empty(), "no allocation of {name} runs");
        Ok(format!("200 of {}", asked.join(", ")))
    })
}

fn first_port(allocation: &Value) -> Option<String> {
    let port = allocation["AllocatedResources"]["Shared"]["Ports"].as_array()?.first()?;
    Some(format!("{}:{}", port["HostIP"].as_str()?, port["Value"]))
}
