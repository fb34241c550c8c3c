//! The order of the deployment: each step acts, and its gate has to pass before the next one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use crate::gate;
use crate::layout::Layout;
use crate::variables;

/// A step of the deployment.
struct Step {
    name: &'static str,
    run: fn(&Layout, &Options) -> Result<()>,
}

/// What the operator decides for one deployment.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `community`, `apache` or `none`: what the database has to be able to do.
    pub require: String,
    /// Stateful tasks may begin on an empty directory.
    pub initialise: bool,
    /// The frontend is hosted on Nomad.
    pub frontend: bool,
    /// The worker of before this layout is stopped, and its absence was looked at.
    pub legacy_worker_stopped: bool,
}

const LONG: Duration = Duration::from_secs(45 * 60);
const SHORT: Duration = Duration::from_secs(10 * 60);

const DATABASE: [Step; 5] = [
    Step {
        name: "variables",
        run: |layout, _| {
            check_variables(layout, |path| {
                ["timescaledb-ha", "pg-leader-proxy"].iter().any(|job| path.ends_with(job))
            })
        },
    },
    Step {
        name: "etcd",
        run: |layout, _| {
            run(layout, "database/etcd", layout.site.etcd_members.len(), SHORT)
                .and_then(|()| gate::etcd(layout, SHORT).pass(layout))
        },
    },
    Step {
        name: "timescaledb-ha",
        run: |layout, _| {
            run(layout, "database/timescaledb-ha", 2, LONG)
                .and_then(|()| gate::database(layout, LONG).pass(layout))
        },
    },
    Step { name: "schema", run: schema },
    Step {
        name: "pg-leader-proxy",
        run: |layout, _| {
            run(layout, "pg-leader-proxy", 2, SHORT)
                .and_then(|()| gate::proxy(layout, layout.site.write_port, SHORT).pass(layout))
        },
    },
];

const VIETMARKET: [Step; 4] = [
    Step {
        name: "variables",
        run: |layout, _| check_variables(layout, |path| path.starts_with("nomad/jobs/vietmarket-")),
    },
    Step {
        name: "candles-latest",
        run: |layout, _| periodic(layout, "vietmarket/vietmarket-candles-latest"),
    },
    Step {
        name: "candles-backfill",
        run: |layout, _| periodic(layout, "vietmarket/vietmarket-candles-backfill"),
    },
    Step { name: "news", run: |layout, _| periodic(layout, "vietmarket/vietmarket-news") },
];

const GVFX: [Step; 12] = [
    Step {
        name: "variables",
        run: |layout, _| {
            variables::policies(layout)
                .and_then(|()| check_variables(layout, |path| path.starts_with("nomad/jobs/gvfx/")))
        },
    },
    Step { name: "postgres", run: |layout, options| stateful(layout, "gvfx/gvfx-postgres", options, None) },
    Step {
        name: "objectstore",
        run: |layout, options| {
            stateful(layout, "gvfx/gvfx-objectstore", options, Some("/minio/health/cluster"))
        },
    },
    Step {
        name: "convex",
        run: |layout, options| stateful(layout, "gvfx/gvfx-convex", options, Some("/version")),
    },
    Step { name: "backup", run: |layout, _| periodic(layout, "gvfx/gvfx-backup") },
    Step { name: "rl-service", run: |layout, _| service(layout, "gvfx/gvfx-rl-service", "/health") },
    Step { name: "api", run: |layout, _| service(layout, "gvfx/gvfx-api", "/health") },
    Step {
        name: "frontend",
        run: |layout, options| {
            if options.frontend { service(layout, "gvfx/gvfx-frontend", "/") } else { Ok(()) }
        },
    },
    Step { name: "egress-check", run: |layout, _| egress_check(layout) },
    Step { name: "legacy-worker", run: |_, options| legacy_worker(options) },
    Step { name: "worker", run: |layout, _| worker(layout) },
    Step { name: "backfill", run: |layout, _| periodic(layout, "gvfx/gvfx-bingx-full-backfill") },
];

fn steps(part: &str) -> Result<&'static [Step]> {
    Ok(match part {
        "database" => &DATABASE,
        "vietmarket" => &VIETMARKET,
        "gvfx" => &GVFX,
        _ => bail!("there is no part \"{part}\"; there are database, vietmarket and gvfx"),
    })
}

/// Deploys a part of the layout, from a step to a step, both included.
///
/// # Errors
/// At the first step that fails, with its evidence and how to go on.
pub fn deploy(
    layout: &Layout,
    part: &str,
    range: (Option<&str>, Option<&str>),
    options: &Options,
) -> Result<()> {
    let steps = steps(part)?;
    let names: Vec<_> = steps.iter().map(|step| step.name).collect();
    let place = |name: &str| {
        names
            .iter()
            .position(|known| *known == name)
            .with_context(|| format!("there is no step \"{name}\"; there are {names:?}"))
    };
    let first = range.0.map_or(Ok(0), place)?;
    let last = range.1.map_or(Ok(steps.len() - 1), place)?;
    ensure!(first <= last, "{:?} comes after {:?}", range.0, range.1);
    for step in &steps[first..=last] {
        layout.shell.say(&format!("{part}: {}", step.name));
        (step.run)(layout, options).with_context(|| {
            format!(
                "{part} stopped at {}; go on with: nomad-layout deploy {part} --from {}",
                step.name, step.name
            )
        })?;
    }
    layout.shell.say(&format!("{part}: done"));
    Ok(())
}

fn check_variables(layout: &Layout, wanted: fn(&str) -> bool) -> Result<()> {
    gate::Gate::new("variables", Duration::ZERO, || variables::check(layout, wanted)).pass(layout)
}

fn run(layout: &Layout, file: &str, count: usize, within: Duration) -> Result<()> {
    layout.run_job(file, &[])?;
    gate::job(layout, &layout.job(file)?.name, count, within).pass(layout)
}

/// `schema.sql` on the leader, as the owner; it may be repeated.
fn schema(layout: &Layout, options: &Options) -> Result<()> {
    let require = &options.require;
    layout.shell.say(&format!("+ psql (on the leader) -v require={require} -f schema.sql"));
    if !layout.shell.dry_run {
        gate::apply_schema(layout, require)?;
    }
    gate::schema(layout, require, Duration::from_secs(30)).pass(layout)
}

fn stateful(layout: &Layout, file: &str, options: &Options, path: Option<&str>) -> Result<()> {
    let initialise = options.initialise.to_string();
    layout.run_job(file, &[("initialise", &initialise)])?;
    let name = layout.job(file)?.name;
    gate::job(layout, &name, 1, SHORT).pass(layout)?;
    path.map_or(Ok(()), |path| gate::endpoint(layout, &name, path, SHORT).pass(layout))
}

/// As many instances as the job wants, each of them well.
fn service(layout: &Layout, file: &str, path: &str) -> Result<()> {
    layout.run_job(file, &[])?;
    let name = layout.job(file)?.name;
    let count = if layout.shell.dry_run { 0 } else { wanted(layout, &name)? };
    gate::job(layout, &name, count, SHORT).pass(layout)?;
    gate::endpoint(layout, &name, path, SHORT).pass(layout)
}

/// The count of the job's groups.
fn wanted(layout: &Layout, name: &str) -> Result<usize> {
    let job = layout.nomad.job(name)?.with_context(|| format!("there is no job {name}"))?;
    let counts =
        job["TaskGroups"].as_array().into_iter().flatten().filter_map(|group| group["Count"].as_u64());
    Ok(usize::try_from(counts.sum::<u64>())?)
}

/// One run at once, which has to end well, and not only at the next turn of the clock.
fn periodic(layout: &Layout, file: &str) -> Result<()> {
    layout.run_job(file, &[])?;
    let name = layout.job(file)?.name;
    layout.shell.act(&["nomad", "job", "periodic", "force", "-detach", &name])?;
    gate::finished(layout, &name, LONG).pass(layout)
}

fn egress_check(layout: &Layout) -> Result<()> {
    // A batch job that did not change is not run again.
    let id = run_id()?;
    layout.run_job("gvfx/gvfx-worker-egress-check", &[("run_id", &id)])?;
    gate::finished(layout, "gvfx-worker-egress-check", SHORT).pass(layout)
}

#[expect(clippy::disallowed_methods, reason = "a name for one run, which no decision depends on")]
fn run_id() -> Result<String> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().to_string())
}

fn legacy_worker(options: &Options) -> Result<()> {
    ensure!(
        options.legacy_worker_stopped,
        "two workers would write twice: stop the one of before this layout, see that it is gone, and say --legacy-worker-stopped"
    );
    Ok(())
}

fn worker(layout: &Layout) -> Result<()> {
    layout.run_job("gvfx/gvfx-worker", &[])?;
    gate::job(layout, "gvfx-worker", 1, SHORT).pass(layout)?;
    gate::singleton(layout, "gvfx-worker", Duration::from_secs(120)).pass(layout)
}
