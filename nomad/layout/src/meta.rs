//! The nodes' meta, as the var-file wants it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::gate::Gate;
use crate::layout::Layout;

const TAKEN: Duration = Duration::from_secs(60);

/// One value that is not as wanted.
#[derive(Debug)]
pub struct Difference {
    node: String,
    id: String,
    key: String,
    wanted: String,
    found: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {} is \"{}\", wanted \"{}\"", self.node, self.key, self.found, self.wanted)
    }
}

/// What differs from `node_meta`.
///
/// # Errors
/// When a node is not known to Nomad.
pub fn differences(layout: &Layout) -> Result<Vec<Difference>> {
    let nodes = layout.nomad.api("/v1/nodes")?;
    let mut found = Vec::new();
    for (name, wanted) in &layout.site.node_meta {
        let node = nodes.as_array().into_iter().flatten().find(|node| node["Name"] == name.as_str());
        let id = node
            .and_then(|node| node["ID"].as_str())
            .with_context(|| format!("Nomad knows no node {name}"))?;
        let meta: Value = layout.nomad.api(&format!("/v1/node/{id}"))?["Meta"].clone();
        found.extend(compare(name, id, wanted, &meta));
    }
    Ok(found)
}

fn compare(name: &str, id: &str, wanted: &BTreeMap<String, String>, meta: &Value) -> Vec<Difference> {
    let differs = wanted.iter().filter(|(key, value)| meta[key.as_str()] != value.as_str());
    differs
        .map(|(key, value)| Difference {
            node: name.to_owned(),
            id: id.to_owned(),
            key: key.clone(),
            wanted: value.clone(),
            found: meta[key.as_str()].as_str().unwrap_or_default().to_owned(),
        })
        .collect()
}

/// Prints what differs and sets it. It lasts until the agent is started again with another configuration.
///
/// # Errors
/// When Nomad refuses.
pub fn apply(layout: &Layout) -> Result<()> {
    let differences = differences(layout)?;
    if differences.is_empty() {
        layout.shell.say("every node has the meta of node_meta");
    }
    for difference in differences {
        layout.shell.say(&difference.to_string());
        let pair = format!("{}={}", difference.key, difference.wanted);
        layout.shell.act(&["nomad", "node", "meta", "apply", "-node-id", &difference.id, &pair])?;
    }
    // A node takes it at once, and tells the servers a moment later.
    Gate::new("meta", TAKEN, || {
        let told: Vec<_> = self::differences(layout)?.iter().map(ToString::to_string).collect();
        ensure!(told.is_empty(), "{}", told.join("; "));
        Ok("as in node_meta".to_owned())
    })
    .pass(layout)
}
