//! Mutants: the core with one rule broken, and whether the search finds it out.
//!
//! A checker that finds nothing proves nothing until it is seen to fail. So for each mutation a copy of the sources of the
//! core is patched, in a temporary directory, and this checker is compiled against the copy. That leaves no trace in the
//! core, as a feature would, and breaks the rule itself, as tampering with observations could not. A patch must match
//! exactly once: a mutation that the core has outgrown is an error.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::mutations::{MUTATIONS, Mutation};

/// What the search made of a mutant.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The program's exit code; 1 when a law is broken.
    pub exit_code: Option<i32>,
    /// What it printed: the counterexample.
    pub told: String,
}

impl Verdict {
    /// Whether the search found this law broken.
    pub fn has_caught(&self, law: u8) -> bool {
        let broken = format!("# Law {law} is broken");
        self.exit_code == Some(1) && self.told.lines().any(|line| line.starts_with(&broken))
    }

    /// The counterexample's comment: the law, and what happened.
    pub fn tale(&self) -> impl Iterator<Item = &str> {
        self.told.lines().filter_map(|line| line.strip_prefix("# "))
    }
}

/// Tries out every mutant, a few at a time, in directories of their own below `directory`.
///
/// # Errors
/// The first of [`Mutation::try_out`].
pub fn try_out_mutants(directory: &Path) -> io::Result<Vec<(Mutation, Verdict)>> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(mutation) = MUTATIONS.get(index) else { break };
                    let verdict = mutation.try_out(&directory.join(index.to_string()));
                    if let Ok(mut verdicts) = verdicts.lock() {
                        verdicts.push((index, verdict));
                    }
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().unwrap_or_default();
    verdicts.sort_by_key(|(index, _)| *index);
    verdicts.into_iter().map(|(index, verdict)| Ok((MUTATIONS[index], verdict?))).collect()
}

impl Mutation {
    /// Builds the mutant in `directory`, which is empty, and explores its setup with up to two disturbances, fewer first.
    /// It is not optimised: compiling it so would take longer than what it finds.
    ///
    /// # Errors
    /// When the patch does not match once, the compiler fails, or a file cannot be written.
    pub fn try_out(&self, directory: &Path) -> io::Result<Verdict> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for sources in ["proxy/core/src", "proxy/core/tests/script", "model/src"] {
            copy(&repository.join(sources), &directory.join(sources))?;
        }
        self.patch(&directory.join("proxy/core/src").join(self.file))?;
        let core = compile(directory, "proxy/core/src/lib.rs", "pg_leader_proxy_core", &[])?;
        let model = compile(directory, "model/src/lib.rs", "model", &[&core])?;
        let program = compile(directory, "model/src/main.rs", "", &[&core, &model])?;
        let output = Command::new(program).args(["--setup", self.setup, "--deepen", "2"]).output()?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Verdict { exit_code: output.status.code(), told })
    }

    fn patch(&self, file: &Path) -> io::Result<()> {
        let text = fs::read_to_string(file)?;
        let matches = text.matches(self.find).count();
        if matches != 1 {
            return Err(io::Error::other(format!("{}: the patch matches {matches} times", self.name)));
        }
        fs::write(file, text.replace(self.find, self.replace))
    }
}

/// Compiles a crate of the copy: a library of this name, or a program without one.
fn compile(directory: &Path, root: &str, library: &str, externs: &[&PathBuf]) -> io::Result<PathBuf> {
    let is_program = library.is_empty();
    let file = if is_program { "mutant".to_owned() } else { format!("lib{library}.rlib") };
    let output = directory.join(file);
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.current_dir(directory).args(["--edition", "2024", "--cap-lints", "allow"]);
    rustc.args(["--crate-type", if is_program { "bin" } else { "rlib" }]);
    rustc.args(["--crate-name", if is_program { "mutant" } else { library }]);
    rustc.env("CARGO_MANIFEST_DIR", directory.join("model"));
    for path in externs {
        let name = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.strip_prefix("lib"));
        rustc.arg("--extern").arg(format!("{}={}", name.unwrap_or_default(), path.display()));
    }
    rustc.arg("-L").arg(directory).arg("-o").arg(&output).arg(root);
    let Output { status, stderr, .. } = rustc.output()?;
    if status.success() {
        Ok(output)
    } else {
        Err(io::Error::other(format!("{root} of the mutant: {}", String::from_utf8_lossy(&stderr))))
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
