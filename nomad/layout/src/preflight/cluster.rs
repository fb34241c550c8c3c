//! What the preflight asks Nomad about itself: encryption and ACLs, Consul, Docker's volumes, room, clocks.

use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::layout::Layout;

/// What an agent must have room for, where it keeps its allocations: images are elsewhere, logs and templates are there.
const LEAST_FREE: u64 = 5 << 30;
/// Patroni's leases and Nomad's `stop_on_client_after` count seconds on more than one node.
const CLOCKS_APART: f64 = 1.0;
/// A client looks at its clock once a second. Of so many looks the newest is less than this old.
const LOOKS: usize = 6;

/// ACLs, TLS and encrypted gossip, but for those that the operator does without.
pub(super) fn security(layout: &Layout, without: &[String]) -> Result<String> {
    let agent = layout.nomad.api("/v1/agent/self")?;
    let (config, serf) = (&agent["config"], &agent["stats"]["serf"]);
    let on = [
        ("acl", config["ACL"]["Enabled"] == true),
        ("tls", config["TLSConfig"]["EnableHTTP"] == true && config["TLSConfig"]["EnableRPC"] == true),
        ("gossip", serf["encrypted"] == "true"),
    ];
    if let Some(stranger) = without.iter().find(|word| on.iter().all(|(what, _)| what != word)) {
        bail!("--without {stranger}: there are acl, tls and gossip");
    }
    let names = |wanted: bool| on.iter().filter(move |(_, is)| *is == wanted).map(|(what, _)| *what);
    let off: Vec<_> = names(false).filter(|what| !without.iter().any(|word| word == what)).collect();
    ensure!(off.is_empty(), "off: {}; see agents/server.hcl, or say --without", off.join(", "));
    Ok(format!("on: {}", names(true).collect::<Vec<_>>().join(", ")))
}

/// A node as Nomad knows it in full.
pub(super) fn whole(layout: &Layout, nodes: &Value, name: &str) -> Result<Value> {
    let node = nodes.as_array().into_iter().flatten().find(|node| node["Name"] == name);
    let id =
        node.and_then(|node| node["ID"].as_str()).with_context(|| format!("Nomad knows no node {name}"))?;
    layout.nomad.api(&format!("/v1/node/{id}"))
}

/// What a node has to offer: Consul where services are registered there, Docker with volumes for the tasks that keep data, room.
pub(super) fn offers(layout: &Layout, node: &Value, docker: bool) -> Result<String> {
    let attributes = &node["Attributes"];
    if layout.site.service_provider == "consul" {
        ensure!(!attributes["consul.version"].is_null(), "no Consul: nothing with a service is placed there");
    }
    if docker {
        ensure!(!attributes["driver.docker"].is_null(), "no Docker");
        ensure!(
            attributes["driver.docker.volumes.enabled"] == "true",
            "Docker may mount no directory of the node: `volumes {{ enabled = true }}`, see agents/client-linux.hcl"
        );
    }
    let id = node["ID"].as_str().unwrap_or_default();
    let stats = layout.nomad.api(&format!("/v1/client/stats?node_id={id}"))?;
    let free = stats["AllocDirStats"]["Available"]
        .as_u64()
        .context("the client does not say how much room there is")?;
    ensure!(free >= LEAST_FREE, "{} GiB free for allocations, {} wanted", free >> 30, LEAST_FREE >> 30);
    Ok(format!("{} GiB free", free >> 30))
}

/// The clocks of the nodes, by the time that each client tells: they may differ by a second.
pub(super) fn clocks(layout: &Layout, nodes: &Value) -> Result<String> {
    let mut offsets = Vec::new();
    for node in nodes.as_array().into_iter().flatten().filter(|node| node["Status"] == "ready") {
        let id = node["ID"].as_str().context("a node without an id")?;
        offsets.push((node["Name"].as_str().unwrap_or_default().to_owned(), offset(layout, id)?));
    }
    apart(&offsets)
}

fn apart(offsets: &[(String, f64)]) -> Result<String> {
    let by_offset = |a: &&(String, f64), b: &&(String, f64)| a.1.total_cmp(&b.1);
    let slowest = offsets.iter().min_by(by_offset).context("no node is ready")?;
    let fastest = offsets.iter().max_by(by_offset).context("no node is ready")?;
    let seconds = fastest.1 - slowest.1;
    ensure!(
        seconds <= CLOCKS_APART,
        "{} is {seconds:.1} s before {}: let NTP set both",
        fastest.0,
        slowest.0
    );
    Ok(format!("{} nodes within {seconds:.1} s", offsets.len()))
}

/// How far a node's clock is before this machine's, in seconds: the newest of some looks, each of which may be a second old.
#[expect(clippy::disallowed_methods, reason = "wall clocks are what is compared")]
fn offset(layout: &Layout, id: &str) -> Result<f64> {
    let began = Instant::now();
    let here = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    let mut newest = f64::NEG_INFINITY;
    for _ in 0..LOOKS {
        let stats = layout.nomad.api(&format!("/v1/client/stats?node_id={id}"))?;
        let told = stats["Timestamp"].as_f64().context("the client tells no time")? / 1e9;
        newest = newest.max(told - here - began.elapsed().as_secs_f64());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_too_far_apart_are_named() {
        let node = |name: &str, offset| (name.to_owned(), offset);
        let near = [node("optiplex", -0.2), node("epyc", 0.5)];
        assert_eq!(apart(&near).unwrap(), "2 nodes within 0.7 s");
        let error = apart(&[node("optiplex", -0.2), node("epyc", 0.1), node("macmini", 2.0)])
            .unwrap_err()
            .to_string();
        assert_eq!(error, "macmini is 2.2 s before optiplex: let NTP set both");
        apart(&[]).unwrap_err();
    }
}
