//! Finds the programs of the setups, and asks them for their versions.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use lab::{built_program, installed_program, proxy_binary};

use super::kind::SetupKind;

/// The directory that `benches/newest-peers` fills.
const NEWEST_PEERS: &str = "pg-leader-proxy-peers";

/// The program of a kind of setup; `None` where it has none.
pub(super) fn find(kind: SetupKind) -> Result<Option<PathBuf>> {
    match kind {
        SetupKind::Direct => Ok(None),
        SetupKind::LowerBound => built_program("lower-bound", "benches").map(Some),
        SetupKind::Haproxy | SetupKind::HaproxySplice => {
            installed_program("haproxy", "apt-get install haproxy").map(Some)
        }
        SetupKind::Pgbouncer => installed_program("pgbouncer", "apt-get install pgbouncer").map(Some),
        SetupKind::HaproxyNew => newest("haproxy").map(Some),
        SetupKind::PgbouncerNew => newest("pgbouncer").map(Some),
        SetupKind::PgLeaderProxy => proxy_binary().map(Some),
    }
}

/// Name and version of a peer's program.
pub(super) fn version(kind: SetupKind, program: &Path) -> Option<(String, String)> {
    let name = match kind {
        SetupKind::Direct | SetupKind::LowerBound | SetupKind::PgLeaderProxy => return None,
        SetupKind::Haproxy | SetupKind::HaproxySplice => "HAProxy",
        SetupKind::HaproxyNew => "HAProxy (newest)",
        SetupKind::Pgbouncer => "PgBouncer",
        SetupKind::PgbouncerNew => "PgBouncer (newest)",
    };
    // PgBouncer has only -V, and old versions of HAProxy only -v.
    let output = ["-V", "-v"].iter().find_map(|option| {
        let output = Command::new(program).arg(option).stdin(Stdio::null()).output().ok()?;
        output.status.success().then_some(output.stdout)
    })?;
    let text = String::from_utf8_lossy(&output).into_owned();
    let mut words = text.lines().next()?.split_whitespace();
    let version = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    Some((name.to_owned(), version.to_owned()))
}

fn newest(name: &str) -> Result<PathBuf> {
    let given = env::var_os("BENCH_PEERS").map(PathBuf::from);
    let home = env::home_dir().map(|home| home.join(".local/share").join(NEWEST_PEERS));
    let dirs = given.into_iter().chain([Path::new("/opt").join(NEWEST_PEERS)]).chain(home);
    let mut found = dirs.map(|dir| dir.join(name)).filter(|path| path.is_file());
    found.next().with_context(|| format!("the newest {name} is missing: run benches/newest-peers"))
}
