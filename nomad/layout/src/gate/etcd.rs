//! The gate of etcd: every member healthy, one cluster, one leader, one version.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Gate;
use crate::http;
use crate::layout::Layout;

/// All members of `etcd_members`.
#[must_use]
pub fn etcd(layout: &Layout, within: Duration) -> Gate<'_> {
    Gate::new("etcd", within, || look(layout))
}

fn look(layout: &Layout) -> Result<String> {
    let members = &layout.site.etcd_members;
    let mut views = Vec::new();
    for member in members {
        let base = format!("http://{}:2379", member.address);
        let health =
            http::json(&format!("{base}/health")).with_context(|| format!("the member {}", member.name))?;
        ensure!(health["health"] == "true", "the member {} says {health}", member.name);
        views.push((member.name.as_str(), http::post(&format!("{base}/v3/maintenance/status"))?));
    }
    let all = |field: &dyn Fn(&Value) -> Value| -> BTreeSet<String> {
        views.iter().map(|(_, view)| field(view).to_string()).collect()
    };
    for (what, values) in [
        ("clusters", all(&|view| view["header"]["cluster_id"].clone())),
        ("leaders", all(&|view| view["leader"].clone())),
        ("terms", all(&|view| view["raftTerm"].clone())),
        ("versions", all(&|view| view["version"].clone())),
    ] {
        ensure!(values.len() == 1, "the members tell of different {what}: {values:?}");
    }
    let leader = views
        .iter()
        .find(|(_, view)| view["leader"] == view["header"]["member_id"])
        .map(|(name, _)| *name)
        .context("no member says that it leads")?;
    let first = members.first().context("no members")?;
    let list = http::post(&format!("http://{}:2379/v3/cluster/member/list", first.address))?;
    let known = list["members"].as_array().map_or(0, Vec::len);
    ensure!(known == members.len(), "the cluster has {known} members, {} are in etcd_members", members.len());
    Ok(format!(
        "{known}/{known}, leader {leader}, version {}",
        views[0].1["version"].as_str().unwrap_or("unknown")
    ))
}
