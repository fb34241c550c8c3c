//! Where `clients/install` has put the programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::Major;

/// The home of the programs of one PostgreSQL version.
///
/// # Errors
/// When they are not installed.
pub(crate) fn postgres(major: Major) -> Result<PathBuf> {
    let home = root()?.join("postgres").join(major.to_string());
    existing(home.join("bin/postgres"))?;
    Ok(home)
}

/// Something that `clients/install` made for the client programs.
///
/// # Errors
/// When it is not there.
pub(crate) fn client(name: &str) -> Result<PathBuf> {
    existing(root()?.join("clients").join(name))
}

/// A file of this crate: the client programs that are not built.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The directory that `clients/install` fills. The environment's `PGLP_LAB_DIR` names another one.
fn root() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("PGLP_LAB_DIR") {
        return Ok(given.into());
    }
    if rustix::process::getuid().is_root() {
        return Ok("/opt/pg-leader-proxy-lab".into());
    }
    Ok(std::env::home_dir().context("HOME is not set")?.join(".local/share/pg-leader-proxy-lab"))
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    ensure!(path.exists(), "{} is missing: run `clients/install`", path.display());
    Ok(path)
}
