//! Finds the programs that the lab runs, and says what to install or build when one is missing.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::options::Patroni;

/// The PostgreSQL version to use when several are installed.
const PREFERRED_VERSION: &str = "15";
const POSTGRES_ROOT: &str = "/usr/lib/postgresql";
const VENV_BIN: &str = "pg-leader-proxy-lab/bin";

/// Where each program of a cluster is.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) etcd: PathBuf,
    pub(crate) patroni: PathBuf,
    /// The directory of `postgres`, `initdb`, …
    pub(crate) postgres: PathBuf,
}

impl Programs {
    pub(crate) fn find(patroni: Patroni) -> Result<Self> {
        Ok(Self {
            etcd: installed_program("etcd", "apt-get install etcd-server")?,
            patroni: find_patroni(patroni)?,
            postgres: find_postgres()?,
        })
    }
}

/// A program on the `PATH`, or in the `sbin` directories, which an ordinary user's `PATH` often lacks. `install` is the
/// command that installs it.
///
/// # Errors
/// When it is not there; the error contains `install`.
pub fn installed_program(name: &str, install: &str) -> Result<PathBuf> {
    find(name, &path_dirs(), install)
}

/// A program of this workspace: beside the running one or one directory up, as with Cargo's tests.
///
/// # Errors
/// When it has not been built; the error says how to build it.
pub fn built_program(name: &str, package: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("asking for the running program")?;
    let candidates = own.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    candidates.into_iter().find(|path| path.is_file()).with_context(|| {
        format!(
            "{name} is not built for {}: run `cargo build -p {package}` with the same profile",
            own.display()
        )
    })
}

/// The proxy: the environment's `PG_LEADER_PROXY`, else the one that Cargo built beside the running program.
///
/// # Errors
/// When it is in none of these places.
pub fn proxy_binary() -> Result<PathBuf> {
    match env::var_os("PG_LEADER_PROXY") {
        Some(given) => std::fs::canonicalize(&given)
            .with_context(|| format!("PG_LEADER_PROXY={} does not exist", given.display())),
        None => built_program("pg-leader-proxy", "pg-leader-proxy"),
    }
}

/// The directory of `postgres`, `initdb`, `pgbench`, …: the environment's `LAB_PG_BIN`, else Debian's.
///
/// # Errors
/// When PostgreSQL is not found; the error says what to install.
pub fn find_postgres() -> Result<PathBuf> {
    if let Some(given) = env::var_os("LAB_PG_BIN") {
        let dir = PathBuf::from(given);
        check_program("LAB_PG_BIN", dir.join("postgres"))?;
        return Ok(dir);
    }
    let mut dirs = postgres_versions();
    dirs.extend(path_dirs());
    let postgres = find("postgres", &dirs, "apt-get install postgresql-15")?;
    Ok(postgres.parent().map(Path::to_path_buf).unwrap_or(postgres))
}

fn find_patroni(patroni: Patroni) -> Result<PathBuf> {
    match patroni {
        Patroni::Debian => {
            find("patroni", &[PathBuf::from("/usr/bin")], "apt-get install patroni python3-etcd")
        }
        Patroni::Venv => {
            if let Some(given) = env::var_os("LAB_PATRONI") {
                return check_program("LAB_PATRONI", PathBuf::from(given));
            }
            let mut dirs = vec![Path::new("/opt").join(VENV_BIN)];
            dirs.extend(env::home_dir().map(|home| home.join(".local/share").join(VENV_BIN)));
            find("patroni", &dirs, "lab/install")
        }
    }
}

/// Debian's versions: the preferred one first, then the newest.
fn postgres_versions() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(POSTGRES_ROOT) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_by_key(|name| (name == PREFERRED_VERSION, name.parse::<u32>().unwrap_or(0)));
    names.iter().rev().map(|name| Path::new(POSTGRES_ROOT).join(name).join("bin")).collect()
}

fn path_dirs() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(sbin).collect()
}

fn check_program(variable: &str, path: PathBuf) -> Result<PathBuf> {
    if !is_program(&path) {
        bail!("{variable} points to {}, which is not an executable file", path.display());
    }
    Ok(path)
}

fn find(program: &str, dirs: &[PathBuf], install: &str) -> Result<PathBuf> {
    dirs.iter().map(|dir| dir.join(program)).find(|path| is_program(path)).with_context(|| {
        let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        format!("{program} not found in {}: {install} (lab/install installs everything)", dirs.join(":"))
    })
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_missing_program_says_where_it_looked_and_what_to_install() {
        let error = find("no-such-program", &[PathBuf::from("/usr/bin")], "apt-get install it").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no-such-program not found in /usr/bin"), "{text}");
        assert!(text.contains("apt-get install it"), "{text}");
    }
}
