//! The checker: porcupine, in a small program in Go (`torture/checker`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lab::installed_program;
use serde::{Deserialize, Serialize};

/// Its source.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/checker");

/// What it says about a history.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Verdict {
    /// Operations that were part of the search.
    pub operations: usize,
    /// Registers and groups of lists.
    pub keys: usize,
    /// Keys whose history no order of the operations explains.
    pub illegal: Vec<String>,
    /// Those that stay so without the plain reads.
    pub illegal_confirmed: Vec<String>,
    /// Keys that took too long.
    pub undecided: Vec<String>,
}

/// The built program.
#[derive(Debug)]
pub(crate) struct Checker {
    program: PathBuf,
}

impl Checker {
    /// Builds it into a directory.
    ///
    /// # Errors
    /// When there is no Go, or its module cannot be fetched or built.
    pub(crate) fn build(directory: &Path) -> Result<Self> {
        let program = std::path::absolute(directory).context("asking for the directory")?.join("checker");
        let go = installed_program("go", "see driver-plugin/conformance: it needs Go, too")?;
        let output = Command::new(go)
            .args(["build", "-C", SOURCE, "-o"])
            .arg(&program)
            .arg(".")
            .stdin(Stdio::null())
            .output()
            .context("running go build")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "building {SOURCE}: {errors}");
        Ok(Self { program })
    }

    /// Judges a history, and writes a page about each key that is not linearizable beside it.
    pub(crate) fn check(&self, history: &Path) -> Result<Verdict> {
        let pictures = history.parent().context("the history is in a directory")?;
        let output = Command::new(&self.program)
            .arg("-pictures")
            .arg(pictures)
            .arg(history)
            .stdin(Stdio::null())
            .output()
            .context("running the checker")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the checker failed: {errors}");
        serde_json::from_slice(&output.stdout).context("reading the checker's verdict")
    }
}
