//! Nomad's variables: which keys the jobs read, which are missing, who may read them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::jobs::GVFX;
use crate::layout::Layout;

/// What an example has in the place of a value.
const PLACEHOLDER: &str = "replace-me";

/// The examples of the folder: path and keys.
///
/// # Errors
/// When one cannot be read.
pub fn examples(folder: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let folder = folder.join("variables");
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let file = entry?.path();
        if file.to_string_lossy().ends_with(".nv.hcl") {
            let (path, items) = read(&file)?;
            all.insert(path, items.into_keys().collect());
        }
    }
    Ok(all)
}

/// The path and the items of one file, as `nomad var put @FILE` takes it.
fn read(file: &Path) -> Result<(String, BTreeMap<String, String>)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let value: serde_json::Value =
        hcl::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
    let path = value["path"].as_str().with_context(|| format!("{} has no path", file.display()))?.to_owned();
    let items = serde_json::from_value(value["items"].clone())
        .with_context(|| format!("the items of {}", file.display()))?;
    Ok((path, items))
}

/// Which of the examples' keys are missing in the cluster, or still have a placeholder. `parts` limits it to these paths.
///
/// # Errors
/// When any is; all of them are named.
pub fn check(layout: &Layout, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let mut faults = Vec::new();
    let mut complete = 0;
    for (path, keys) in examples(&layout.folder)?.iter().filter(|(path, _)| wanted(path)) {
        let Some(items) = layout.nomad.variable(path)? else {
            faults.push(format!("there is no variable {path}"));
            continue;
        };
        for key in keys {
            match items.get(key).map(String::as_str) {
                None => faults.push(format!("{path}: no {key}")),
                Some("") => faults.push(format!("{path}: {key} is empty")),
                Some(value) if value.contains(PLACEHOLDER) => {
                    faults.push(format!("{path}: {key} is still {PLACEHOLDER}"))
                }
                Some(_) => {}
            }
        }
        complete += 1;
    }
    ensure!(faults.is_empty(), "variables: {}", faults.join("; "));
    Ok(format!("{complete} variables are complete"))
}

/// Writes variables from files with real values; one with a placeholder is refused before any is written.
///
/// # Errors
/// When a file is not complete or Nomad refuses it.
pub fn put(layout: &Layout, files: &[PathBuf]) -> Result<()> {
    for file in files {
        let (path, items) = read(file)?;
        if let Some((key, _)) =
            items.iter().find(|(_, value)| value.contains(PLACEHOLDER) || value.is_empty())
        {
            bail!("{}: {key} of {path} has no value", file.display());
        }
    }
    for file in files {
        let from = format!("@{}", file.display());
        layout.shell.act(&["nomad", "var", "put", "-force", "-out=none", &from])?;
    }
    Ok(())
}

/// Lets each job of Stack B read the shared variables.
///
/// # Errors
/// When Nomad refuses.
pub fn policies(layout: &Layout) -> Result<()> {
    let file = layout.folder.join("policies/gvfx-variables.hcl").display().to_string();
    for job in GVFX.iter().filter_map(|name| name.strip_prefix("gvfx/")) {
        let policy = format!("{job}-variables");
        layout.shell.act(&[
            "nomad",
            "acl",
            "policy",
            "apply",
            "-namespace",
            "default",
            "-job",
            job,
            &policy,
            &file,
        ])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_name_every_path() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let examples = examples(&folder).unwrap();
        assert!(
            examples["nomad/jobs/timescaledb-ha"].contains(&"superuser_password".to_owned()),
            "{examples:?}"
        );
        assert!(examples["nomad/jobs/gvfx/config"].len() > 15);
        assert_eq!(examples.len(), 7);
    }
}
