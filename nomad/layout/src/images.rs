//! The container images that the jobs name: whether the registries have them, and how one's own get there.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::jobs;
use crate::layout::Layout;

/// How often a push is tried before the image is built again: registries drop connections.
const PUSHES: usize = 3;

/// The images of these jobs, as Nomad itself reads the files.
///
/// # Errors
/// When a file cannot be parsed, or a variable is missing.
pub fn named(layout: &Layout, names: &[&str]) -> Result<BTreeSet<String>> {
    let mut images = BTreeSet::new();
    for name in names {
        let job = layout.job(name)?;
        let arguments = jobs::arguments(&layout.variables, &job, &[("run_id", "images")]);
        let mut command = vec!["nomad", "job", "run", "-output"];
        command.extend(arguments.iter().map(String::as_str));
        command.push(&job.file);
        let text = layout.shell.look_in(&job.folder, &command)?;
        let parsed: Value = serde_json::from_str(&text).with_context(|| format!("{name}: no JSON"))?;
        let groups = parsed["Job"]["TaskGroups"].as_array().into_iter().flatten();
        let tasks = groups.flat_map(|group| group["Tasks"].as_array().into_iter().flatten());
        images.extend(tasks.filter_map(|task| task["Config"]["image"].as_str()).map(str::to_owned));
    }
    Ok(images)
}

/// Asks the registries for each image.
///
/// # Errors
/// When any is missing; all of them are named.
pub fn check(layout: &Layout, names: &[&str]) -> Result<String> {
    let images = named(layout, names)?;
    let missing: Vec<_> = images
        .iter()
        .filter(|image| layout.shell.look(&["docker", "manifest", "inspect", image]).is_err())
        .cloned()
        .collect();
    if missing.is_empty() {
        Ok(format!("{} images are there", images.len()))
    } else {
        bail!("no manifest of {}", missing.join(", "))
    }
}

/// Builds an image for the Linux nodes and pushes it. The push of the same tag is tried again before anything is built again.
///
/// # Errors
/// When it cannot be built, pushed, or found afterwards.
pub fn push(layout: &Layout, image: &str, context: &str) -> Result<()> {
    let shell = layout.shell;
    shell.act(&[
        "docker",
        "buildx",
        "build",
        "--platform",
        "linux/amd64",
        "--load",
        "--tag",
        image,
        context,
    ])?;
    for attempt in 1..=PUSHES {
        match shell.act(&["docker", "push", image]) {
            Ok(_) => break,
            Err(error) if attempt == PUSHES => return Err(error),
            Err(error) => shell.say(&format!("  try {attempt} of {PUSHES}: {error}")),
        }
    }
    shell.act(&["docker", "manifest", "inspect", image]).map(drop)
}
