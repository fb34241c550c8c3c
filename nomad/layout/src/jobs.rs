//! The job files of the folder: where each is, what it declares, and how it is run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::site::{OWN, Variables};

/// The job files, by the part of the layout that they belong to.
pub const DATABASE: [&str; 3] = ["database/etcd", "database/timescaledb-ha", "pg-leader-proxy"];
/// Stack A's clients.
pub const VIETMARKET: [&str; 3] = [
    "vietmarket/vietmarket-candles-latest",
    "vietmarket/vietmarket-candles-backfill",
    "vietmarket/vietmarket-news",
];
/// Stack B, in the order of its deployment; the frontend may be hosted elsewhere.
pub const GVFX: [&str; 10] = [
    "gvfx/gvfx-postgres",
    "gvfx/gvfx-objectstore",
    "gvfx/gvfx-convex",
    "gvfx/gvfx-backup",
    "gvfx/gvfx-rl-service",
    "gvfx/gvfx-api",
    "gvfx/gvfx-frontend",
    "gvfx/gvfx-worker-egress-check",
    "gvfx/gvfx-worker",
    "gvfx/gvfx-bingx-full-backfill",
];
/// The way back.
pub const ROLLBACK: &str = "rollback/pg-haproxy";

/// One job file.
#[derive(Clone, Debug)]
pub struct JobFile {
    /// The job's name: the file's.
    pub name: String,
    /// The directory in which `nomad` has to be run: it looks there for the scripts that the file names, and not beside the file.
    pub folder: PathBuf,
    /// The file's name in it.
    pub file: String,
    /// The variables that it declares.
    pub declares: BTreeSet<String>,
}

/// Reads one, such as `database/etcd`.
///
/// # Errors
/// When it cannot be read or parsed.
pub fn read(folder: &Path, name: &str) -> Result<JobFile> {
    let path = folder.join(format!("{name}.nomad.hcl"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let body: hcl::Body = hcl::parse(&text).with_context(|| format!("reading {}", path.display()))?;
    let declares = body
        .blocks()
        .filter(|block| block.identifier() == "variable")
        .filter_map(|block| block.labels().first().map(|label| label.as_str().to_owned()))
        .collect();
    let name =
        Path::new(name).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().unwrap_or(folder).to_owned();
    Ok(JobFile { file: format!("{name}.nomad.hcl"), name, folder, declares })
}

/// All job files.
///
/// # Errors
/// As [`read`].
pub fn all(folder: &Path) -> Result<Vec<JobFile>> {
    DATABASE
        .iter()
        .chain(&VIETMARKET)
        .chain(&GVFX)
        .chain([&ROLLBACK])
        .map(|name| read(folder, name))
        .collect()
}

/// One var-file for many jobs needs `-hcl2-strict=false`, which takes every name: a typo would pass. So a name that no job
/// declares is rejected here.
///
/// # Errors
/// Names all of them.
pub fn reject_unknown(variables: &Variables, jobs: &[JobFile]) -> Result<()> {
    let unknown: Vec<_> = variables
        .names()
        .filter(|name| !OWN.contains(name) && !jobs.iter().any(|job| job.declares.contains(*name)))
        .collect();
    if unknown.is_empty() { Ok(()) } else { bail!("no job file declares {}", unknown.join(", ")) }
}

/// The arguments of `nomad job run`, `plan` or `validate` before the file. `more` are variables of this run; only those that
/// the job declares are passed on, because Nomad rejects the others.
#[must_use]
pub fn arguments(variables: &Variables, job: &JobFile, more: &[(&str, &str)]) -> Vec<String> {
    let mut arguments = vec!["-hcl2-strict=false".to_owned()];
    arguments.extend(variables.files.iter().map(|file| format!("-var-file={}", file.display())));
    let known = more.iter().filter(|(name, _)| job.declares.contains(*name));
    arguments.extend(known.map(|(name, value)| format!("-var={name}={value}")));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn every_job_file_of_the_folder_is_known_and_read() {
        let jobs = all(&folder()).unwrap();
        let mut files = Vec::new();
        for place in ["", "database", "vietmarket", "gvfx", "rollback"] {
            let entries = std::fs::read_dir(folder().join(place)).unwrap();
            files.extend(
                entries
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .filter(|name| name.ends_with(".nomad.hcl")),
            );
        }
        assert_eq!(jobs.len(), files.len(), "{files:?}");
        assert!(jobs.iter().all(|job| job.declares.len() > 2), "{jobs:?}");
    }

    #[test]
    fn a_name_that_no_job_declares_is_rejected() {
        let jobs = all(&folder()).unwrap();
        let site = folder().join("site.vars.hcl");
        reject_unknown(
            &Variables::read(&[site.clone(), folder().join("tests/operators.vars.hcl")]).unwrap(),
            &jobs,
        )
        .unwrap();
        let place = tempfile::tempdir().unwrap();
        let typo = place.path().join("typo.vars.hcl");
        std::fs::write(&typo, "write_prot = 5433").unwrap();
        let error = reject_unknown(&Variables::read(&[site, typo]).unwrap(), &jobs).unwrap_err().to_string();
        assert!(error.contains("write_prot"), "{error}");
    }

    #[test]
    fn a_variable_of_one_run_goes_to_the_jobs_that_declare_it() {
        let folder = folder();
        let variables = Variables::read(&[folder.join("site.vars.hcl")]).unwrap();
        let proxy = read(&folder, "pg-leader-proxy").unwrap();
        let given = arguments(&variables, &proxy, &[("nodes", "^epyc$"), ("run_id", "7")]);
        assert_eq!(given.last().unwrap(), "-var=nodes=^epyc$", "{given:?}");
    }
}
