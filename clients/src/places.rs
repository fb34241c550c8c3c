//! Where the installed programs are, and what to do when one is missing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::Major;

/// The directory that `clients/install` fills; `PGLP_LAB_DIR` names another one.
///
/// # Errors
/// When neither that variable nor a home directory is set.
pub fn installed() -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("PGLP_LAB_DIR") {
        return Ok(chosen.into());
    }
    if rustix::process::getuid().is_root() {
        return Ok("/opt/pg-leader-proxy-lab".into());
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(Path::new(&home).join(".local/share/pg-leader-proxy-lab"))
}

/// The programs of one PostgreSQL version.
///
/// # Errors
/// When they are not installed.
pub fn postgres(major: Major) -> Result<PathBuf> {
    let home = installed()?.join("postgres").join(major.to_string());
    present(home.join("bin/postgres"))?;
    Ok(home)
}

/// Something that `clients/install` made for the client programs.
///
/// # Errors
/// When it is not there.
pub fn client(name: &str) -> Result<PathBuf> {
    present(installed()?.join("clients").join(name))
}

/// A file of this crate: the client programs that need no building.
#[must_use]
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The proxy: `PG_LEADER_PROXY`, or the program that cargo built beside this test.
///
/// # Errors
/// When it has not been built.
pub fn proxy() -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("PG_LEADER_PROXY") {
        return present(chosen.into());
    }
    built("pg-leader-proxy", "pg-leader-proxy")
}

/// A program that cargo built beside this test, from the crate `package`.
///
/// # Errors
/// When it has not been built.
pub fn built(name: &str, package: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("find this test's own path")?;
    // Test programs are in `target/<profile>/deps`, the others one above.
    let profile = test.parent().and_then(Path::parent).context("this test is in no target directory")?;
    let program = profile.join(name);
    if !program.exists() {
        bail!("{} is missing: run `cargo build -p {package}`", program.display());
    }
    Ok(program)
}

fn present(path: PathBuf) -> Result<PathBuf> {
    if !path.exists() {
        bail!("{} is missing: run `clients/install`", path.display());
    }
    Ok(path)
}
