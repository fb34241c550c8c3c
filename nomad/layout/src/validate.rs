//! The operators' checklist for a layout that is deployed: everything is looked at, and every fault told.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::jobs::{DATABASE, GVFX, VIETMARKET};
use crate::layout::Layout;
use crate::preflight::Findings;
use crate::{gate, jobs, variables};

/// Checks these parts.
///
/// # Errors
/// When anything is not as it has to be.
pub fn run(layout: &Layout, parts: &[String], require: &str) -> Result<()> {
    let mut findings = Findings::new(layout);
    let has = |part: &str| parts.iter().any(|known| known == part);
    if has("database") {
        findings.look("etcd", now(gate::etcd(layout, Duration::ZERO), layout));
        findings.look("database", now(gate::database(layout, Duration::ZERO), layout));
        findings.look("schema", now(gate::schema(layout, require, Duration::ZERO), layout));
        findings.look("proxy", now(gate::proxy(layout, layout.site.write_port, Duration::ZERO), layout));
    }
    if has("vietmarket") {
        for name in VIETMARKET {
            let name = layout.job(name)?.name;
            findings.look(&name, now(gate::finished(layout, &name, Duration::ZERO), layout));
        }
    }
    if has("gvfx") {
        stack_b(layout, &mut findings);
    }
    findings.look("secrets", plaintext(layout));
    findings.end("validate")
}

fn stack_b(layout: &Layout, findings: &mut Findings<'_>) {
    for (name, path) in [
        ("gvfx-objectstore", "/minio/health/live"),
        ("gvfx-convex", "/version"),
        ("gvfx-rl-service", "/health"),
        ("gvfx-api", "/health"),
        ("gvfx-api", "/ops/gaps/health"),
        ("gvfx-api", "/ops/alerts"),
    ] {
        findings
            .look(&format!("{name}{path}"), now(gate::endpoint(layout, name, path, Duration::ZERO), layout));
    }
    findings.look("gvfx-postgres", now(gate::job(layout, "gvfx-postgres", 1, Duration::ZERO), layout));
    findings.look("gvfx-worker", one_worker(layout));
    for name in ["gvfx-worker-egress-check", "gvfx-bingx-full-backfill", "gvfx-backup"] {
        findings.look(name, now(gate::finished(layout, name, Duration::ZERO), layout));
    }
}

/// A gate asked once.
fn now(gate: gate::Gate<'_>, layout: &Layout) -> Result<String> {
    gate.pass(layout).map(|()| "as it should be".to_owned())
}

fn one_worker(layout: &Layout) -> Result<String> {
    let live =
        layout.nomad.allocations("gvfx-worker")?.iter().filter(|allocation| allocation.is_live()).count();
    ensure!(live == 1, "{live} live");
    Ok("exactly one".to_owned())
}

/// No job holds the value of a variable. The values are compared and never printed.
fn plaintext(layout: &Layout) -> Result<String> {
    /// A shorter value is also an ordinary word.
    const SHORTEST: usize = 8;
    let mut secrets = Vec::new();
    for path in variables::examples(&layout.folder)?.into_keys().filter(|path| !path.ends_with("/config")) {
        let items = layout.nomad.variable(&path)?.unwrap_or_default();
        secrets.extend(
            items
                .into_iter()
                .filter(|(_, value)| value.len() >= SHORTEST)
                .map(|(key, value)| (path.clone(), key, value)),
        );
    }
    let mut looked = 0;
    for name in DATABASE.iter().chain(&VIETMARKET).chain(&GVFX) {
        let name = jobs::read(&layout.folder, name)?.name;
        let Some(job) = layout.nomad.job(&name)? else { continue };
        looked += 1;
        let text = job.to_string();
        let found = secrets.iter().find(|(_, _, value)| text.contains(value.as_str()));
        ensure!(
            found.is_none(),
            "the job {name} holds the value of {:?}",
            found.map(|(path, key, _)| (path, key))
        );
    }
    Ok(format!("{} values are in none of {looked} jobs", secrets.len()))
}
