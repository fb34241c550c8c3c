//! Finds the programs the lab runs, and says what to install when one is missing.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::options::Patroni;

/// PostgreSQL when several are installed.
const PREFERRED_VERSION: &str = "15";
const POSTGRES_ROOT: &str = "/usr/lib/postgresql";
const VENV_PATRONI: &str = "pg-leader-proxy-lab/bin/patroni";

/// Where each program is.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) etcd: PathBuf,
    pub(crate) patroni: PathBuf,
    /// The directory of `postgres`, `initdb`, …
    pub(crate) postgres: PathBuf,
}

impl Binaries {
    pub(crate) fn find(patroni: Patroni) -> Result<Self> {
        Ok(Self {
            etcd: find("etcd", &path_dirs(), "apt-get install etcd-server")?,
            patroni: find_patroni(patroni)?,
            postgres: find_postgres()?,
        })
    }
}

/// `setpriv`, which drops root's rights without leaving a process of its own in between.
pub(crate) fn setpriv() -> Result<PathBuf> {
    find("setpriv", &path_dirs(), "apt-get install util-linux")
}

/// `openssl`, for the lab's certificates.
pub(crate) fn openssl() -> Result<PathBuf> {
    find("openssl", &path_dirs(), "apt-get install openssl")
}

fn find_patroni(patroni: Patroni) -> Result<PathBuf> {
    match patroni {
        Patroni::Debian => {
            find("patroni", &[PathBuf::from("/usr/bin")], "apt-get install patroni python3-etcd")
        }
        Patroni::Venv => {
            if let Some(given) = env::var_os("LAB_PATRONI") {
                return given_file("LAB_PATRONI", PathBuf::from(given));
            }
            let mut dirs = vec![bin_of(PathBuf::from("/opt"))];
            if let Some(home) = env::var_os("HOME") {
                dirs.push(bin_of(PathBuf::from(home).join(".local/share")));
            }
            find("patroni", &dirs, "lab/install")
        }
    }
}

fn bin_of(root: PathBuf) -> PathBuf {
    root.join(VENV_PATRONI).parent().map(Path::to_path_buf).unwrap_or(root)
}

/// The directory of `postgres`, `initdb`, `pgbench`, …: the environment's `LAB_PG_BIN`, else Debian's.
///
/// # Errors
/// When PostgreSQL is not found; the error says what to install.
pub fn find_postgres() -> Result<PathBuf> {
    if let Some(given) = env::var_os("LAB_PG_BIN") {
        let dir = PathBuf::from(given);
        given_file("LAB_PG_BIN", dir.join("postgres"))?;
        return Ok(dir);
    }
    let mut dirs = versions();
    dirs.extend(path_dirs());
    let postgres = find("postgres", &dirs, "apt-get install postgresql-15")?;
    Ok(postgres.parent().map(Path::to_path_buf).unwrap_or(postgres))
}

/// Debian's versions: the preferred one first, then the newest.
fn versions() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(POSTGRES_ROOT) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_by_key(|name| (name == PREFERRED_VERSION, name.parse::<u32>().unwrap_or(0)));
    names.iter().rev().map(|name| Path::new(POSTGRES_ROOT).join(name).join("bin")).collect()
}

fn path_dirs() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = env::split_paths(&path).collect();
    // An ordinary user's PATH often lacks these.
    dirs.extend(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    dirs
}

fn given_file(variable: &str, path: PathBuf) -> Result<PathBuf> {
    if !is_program(&path) {
        bail!("{variable} points to {}, which is no program", path.display());
    }
    Ok(path)
}

fn find(program: &str, dirs: &[PathBuf], install: &str) -> Result<PathBuf> {
    for dir in dirs {
        let path = dir.join(program);
        if is_program(&path) {
            return Ok(path);
        }
    }
    let looked: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    bail!("{program} not found in {}: {install} (lab/install sets up everything)", looked.join(":"))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_where_and_what() {
        let error = find("no-such-program", &[PathBuf::from("/usr/bin")], "apt-get install it").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no-such-program not found in /usr/bin"), "{text}");
        assert!(text.contains("apt-get install it"), "{text}");
    }
}
