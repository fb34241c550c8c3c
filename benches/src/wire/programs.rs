//! Finds the contenders' programs, and asks them for their versions.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::contenders::{Contender, Kind};

/// Where `benches/newest-peers` puts them.
const PEERS: &str = "pg-leader-proxy-peers";

/// The program of a contender; `None` where it has none.
///
/// # Errors
/// When it is not installed or not built; the error says what to do.
pub fn find(kind: Kind) -> Result<Option<PathBuf>> {
    match kind {
        Kind::Direct => Ok(None),
        Kind::Floor => own("floor").map(Some),
        Kind::Haproxy | Kind::HaproxySplice => installed("haproxy").map(Some),
        Kind::Pgbouncer => installed("pgbouncer").map(Some),
        Kind::HaproxyNew => newest("haproxy").map(Some),
        Kind::PgbouncerNew => newest("pgbouncer").map(Some),
        Kind::PgLeaderProxy => lab::proxy_binary().map(Some),
    }
}

/// Name and version of every contender's program.
#[must_use]
pub fn versions(contenders: &[Contender]) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    for contender in contenders {
        let name = match contender.kind {
            Kind::Direct | Kind::Floor | Kind::PgLeaderProxy => continue,
            Kind::Haproxy | Kind::HaproxySplice => "HAProxy",
            Kind::HaproxyNew => "HAProxy (newest)",
            Kind::Pgbouncer => "PgBouncer",
            Kind::PgbouncerNew => "PgBouncer (newest)",
        };
        if let Some(version) = contender.program.as_ref().and_then(version) {
            versions.insert(name.to_owned(), version);
        }
    }
    versions
}

/// The first word of its first line that begins with a digit.
fn version(program: &PathBuf) -> Option<String> {
    // Both know it, and the other option only in one of them.
    let output = Command::new(program).arg("-V").stdin(Stdio::null()).output().ok()?;
    let output = if output.status.success() {
        output
    } else {
        Command::new(program).arg("-v").stdin(Stdio::null()).output().ok()?
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.lines().next()?.split_whitespace();
    words.find(|word| word.starts_with(|first: char| first.is_ascii_digit())).map(str::to_owned)
}

/// A program of this workspace, beside the running one.
fn own(name: &str) -> Result<PathBuf> {
    let running = env::current_exe().context("asking for the running program")?;
    let beside = running.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    let mut found = beside.filter(|path| path.is_file());
    found.next().with_context(|| format!("{name} is not built: cargo build --release -p benches"))
}

fn installed(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = env::split_paths(&path).collect();
    directories.push(PathBuf::from("/usr/sbin"));
    let mut found = directories.into_iter().map(|directory| directory.join(name));
    found
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not installed: apt-get install {name}"))
}

fn newest(name: &str) -> Result<PathBuf> {
    let mut directories = vec![PathBuf::from("/opt").join(PEERS)];
    directories.extend(env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share").join(PEERS)));
    if let Some(given) = env::var_os("BENCH_PEERS") {
        directories.insert(0, PathBuf::from(given));
    }
    let mut found = directories.into_iter().map(|directory| directory.join(name));
    found.find(|path| path.is_file()).with_context(|| format!("no newest {name}: run benches/newest-peers"))
}
