//! What has to be so before anything is deployed. Everything is looked at, and every fault told.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::layout::Layout;
use crate::{gate, http, images, jobs, meta, variables};

mod cluster;

/// The plug-ins that a group with a network of its own needs, by the name that Nomad's client tells.
const CNI: [&str; 5] = ["bridge", "firewall", "host-local", "loopback", "portmap"];

/// Collects what was looked at.
pub(crate) struct Findings<'a> {
    layout: &'a Layout,
    faults: usize,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(layout: &'a Layout) -> Self {
        Self { layout, faults: 0 }
    }

    /// Tells one.
    pub(crate) fn look(&mut self, what: &str, found: Result<String>) {
        match found {
            Ok(evidence) => self.layout.shell.say(&format!("ok     {what}: {evidence}")),
            Err(error) => {
                self.faults += 1;
                self.layout.shell.say(&format!("FAULT  {what}: {error:#}"));
            }
        }
    }

    pub(crate) fn end(self, what: &str) -> Result<()> {
        if self.faults == 0 { Ok(()) } else { bail!("{what}: {} faults", self.faults) }
    }
}

/// Looks at everything that these jobs need. `without` are acl, tls or gossip when they may be off.
///
/// # Errors
/// When anything is not as it has to be.
pub fn run(layout: &Layout, names: &[&str], servers: usize, without: &[String]) -> Result<()> {
    let mut findings = Findings::new(layout);
    findings.look("servers", self::servers(layout, servers));
    findings.look("security", cluster::security(layout, without));
    let nodes = layout.nomad.api("/v1/nodes")?;
    for member in &layout.site.etcd_members {
        findings.look(&format!("node {}", member.node), node(&nodes, &member.node, None));
        let offers = cluster::whole(layout, &nodes, &member.node)
            .and_then(|node| cluster::offers(layout, &node, member.runtime == "docker"));
        findings.look(&format!("what {} has", member.node), offers);
    }
    findings.look("clocks", cluster::clocks(layout, &nodes));
    let database = names.iter().any(|name| jobs::DATABASE.contains(name));
    if database {
        for node in &layout.site.db_nodes {
            findings.look(
                &format!("driver on {}", node.node),
                self::node(&nodes, &node.node, Some("pg-leader-proxy")),
            );
            findings.look(&format!("ports of {}", node.node), ports(layout, &node.node, &node.address));
        }
        findings.look("existing data", existing(layout));
    }
    if names.iter().any(|name| jobs::GVFX.contains(name)) {
        findings.look("CNI", cni(layout, &nodes));
    }
    findings.look("meta", same_meta(layout));
    findings.look("variables", variables::check(layout, |path| reads(names, path)));
    for name in names {
        findings.look(&format!("plan of {name}"), plan(layout, name));
    }
    if layout.shell.look(&["docker", "--version"]).is_ok() {
        findings.look("images", images::check(layout, names));
    } else {
        layout
            .shell
            .say("skipped  images: there is no docker here; `nomad-layout images check` where there is");
    }
    findings.end("preflight")
}

/// Whether one of the jobs reads a variable: its own, or Stack B's shared ones.
fn reads(names: &[&str], path: &str) -> bool {
    names.iter().any(|name| {
        let job = name.rsplit('/').next().unwrap_or(name);
        path == format!("nomad/jobs/{job}")
            || (name.starts_with("gvfx/") && path.starts_with("nomad/jobs/gvfx/"))
    })
}

fn servers(layout: &Layout, wanted: usize) -> Result<String> {
    let leader = layout.nomad.api("/v1/status/leader")?;
    let peers = layout.nomad.api("/v1/status/peers")?;
    let count = peers.as_array().map_or(0, Vec::len);
    ensure!(leader.as_str().is_some_and(|leader| !leader.is_empty()), "Nomad has no leader");
    ensure!(count == wanted, "{count} servers, {wanted} wanted");
    Ok(format!("{count}, leader {leader}"))
}

fn node(nodes: &Value, name: &str, driver: Option<&str>) -> Result<String> {
    let node = nodes.as_array().into_iter().flatten().find(|node| node["Name"] == name);
    let node = node.with_context(|| format!("Nomad knows no node {name}"))?;
    let (status, eligibility) = (&node["Status"], &node["SchedulingEligibility"]);
    ensure!(status == "ready" && eligibility == "eligible", "{name} is {status}, {eligibility}");
    if let Some(driver) = driver {
        let found = &node["Drivers"][driver];
        ensure!(
            found["Healthy"] == true,
            "the driver {driver}: {}",
            found["HealthDescription"].as_str().unwrap_or("not there")
        );
    }
    Ok("ready".to_owned())
}

/// A port that is open without the job that owns it belongs to somebody else.
fn ports(layout: &Layout, node: &str, address: &str) -> Result<String> {
    let site = &layout.site;
    let mut taken = Vec::new();
    for (job, ports) in [
        ("etcd", vec![2379, 2380]),
        ("timescaledb-ha", vec![5432, 8008]),
        ("pg-leader-proxy", vec![site.write_port, site.read_port, site.admin_port]),
    ] {
        let ours = layout
            .nomad
            .allocations(job)
            .is_ok_and(|all| all.iter().any(|one| one.runs() && one.node_name == node));
        for port in ports {
            if !ours && gate::listens(address, port)? {
                taken.push(format!("{port} ({job} does not run there)"));
            }
        }
    }
    ensure!(taken.is_empty(), "somebody listens on {}", taken.join(", "));
    Ok("free, or the job's own".to_owned())
}

/// Two servers that were never one cluster are the worst that can be found: the one with less would be thrown away.
fn existing(layout: &Layout) -> Result<String> {
    let mut identifiers = BTreeSet::new();
    let mut found = 0;
    for node in &layout.site.db_nodes {
        if !gate::listens(&node.address, 5432)? {
            continue;
        }
        found += 1;
        let state = http::json(&format!("http://{}:8008/patroni", node.address));
        let state = state
            .with_context(|| format!("PostgreSQL runs on {} without Patroni; {CONVERSION}", node.node))?;
        identifiers.insert(state["database_system_identifier"].as_str().unwrap_or_default().to_owned());
    }
    ensure!(
        identifiers.len() <= 1,
        "two unrelated clusters, system identifiers {identifiers:?}; {CONVERSION}"
    );
    Ok(if found == 0 { "none runs".to_owned() } else { format!("{found} members of one cluster") })
}

const CONVERSION: &str = "dump both, choose one, and see README.md, \"An existing database\"";

fn cni(layout: &Layout, nodes: &Value) -> Result<String> {
    let mut able = Vec::new();
    for node in nodes.as_array().into_iter().flatten() {
        let id = node["ID"].as_str().unwrap_or_default();
        let whole = layout.nomad.api(&format!("/v1/node/{id}"))?;
        if whole["Meta"]["egress_worker"] != "true" || whole["Attributes"]["kernel.name"] != "linux" {
            continue;
        }
        let name = node["Name"].as_str().unwrap_or_default();
        let lacks: Vec<_> = CNI
            .iter()
            .filter(|plugin| whole["Attributes"][format!("plugins.cni.version.{plugin}")].is_null())
            .collect();
        ensure!(
            lacks.is_empty(),
            "{name} has no CNI plug-in {lacks:?}: install containernetworking-plugins, restart the agent"
        );
        able.push(name.to_owned());
    }
    ensure!(!able.is_empty(), "no Linux node has meta.egress_worker = true");
    Ok(able.join(", "))
}

fn same_meta(layout: &Layout) -> Result<String> {
    let differences = meta::differences(layout)?;
    let told: Vec<_> = differences.iter().map(ToString::to_string).collect();
    ensure!(told.is_empty(), "{}; nomad-layout meta sets it", told.join("; "));
    Ok("as in node_meta".to_owned())
}

/// `nomad job plan` ends with 1 when it would change something, and tells in words what finds no place.
fn plan(layout: &Layout, name: &str) -> Result<String> {
    let job = layout.job(name)?;
    let arguments = jobs::arguments(&layout.variables, &job, &[("run_id", "plan")]);
    let script = "exec 2>&1; nomad job plan -no-color \"$@\"; code=$?; [ $code -le 1 ]";
    let mut command = vec!["/bin/sh", "-c", script, "plan"];
    command.extend(arguments.iter().map(String::as_str));
    command.push(&job.file);
    let text = layout.shell.look_in(&job.folder, &command)?;
    if text.contains("Failed to place") {
        let reasons: Vec<_> = text.lines().map(str::trim).filter(|line| line.starts_with("* ")).collect();
        bail!("{}", reasons.join("; "));
    }
    // It ends with 1 also when it cannot read the file.
    ensure!(text.contains("Job Modify Index"), "{}", text.trim());
    Ok("everything finds a place".to_owned())
}
