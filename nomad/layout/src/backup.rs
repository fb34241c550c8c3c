//! A backup that can be checked: a dump of the candles' database, with a manifest of what was in it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::sql;

/// What the dump has to hold when it is restored.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The dump's hash.
    pub sha256: String,
    /// The server's version, as a number: 160010.
    pub server: String,
    /// TimescaleDB's version; empty without it.
    pub timescaledb: String,
    /// Rows by table.
    pub rows: BTreeMap<String, u64>,
    /// The newest candle by time frame, in milliseconds.
    pub newest: BTreeMap<String, String>,
}

/// The file with the manifest.
pub const MANIFEST: &str = "manifest.json";
/// The dump.
pub const DUMP: &str = "vietmarket.dump";

/// What a database holds now.
pub(crate) fn contents(
    login: &tokio_postgres::Config,
) -> Result<(BTreeMap<String, u64>, BTreeMap<String, String>)> {
    let tables = sql::column(
        login,
        "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1",
    )?;
    let mut rows = BTreeMap::new();
    for table in tables {
        let count = sql::value(login, &format!("SELECT count(*) FROM public.{table}"))?;
        rows.insert(table, count.parse()?);
    }
    let mut newest = BTreeMap::new();
    if rows.contains_key("candles") {
        for pair in sql::column(login, "SELECT tf || '|' || max(ts) FROM public.candles GROUP BY tf")? {
            let (frame, ts) = pair.split_once('|').context("a time frame without a time")?;
            newest.insert(frame.to_owned(), ts.to_owned());
        }
    }
    Ok((rows, newest))
}

pub(crate) fn sha256(layout: &Layout, file: &str) -> Result<String> {
    let text = layout.shell.look(&["sha256sum", file])?;
    Ok(text.split_whitespace().next().context("sha256sum says nothing")?.to_owned())
}

pub(crate) fn timescaledb(login: &tokio_postgres::Config) -> Result<String> {
    let version = sql::column(login, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")?;
    Ok(version.into_iter().next().unwrap_or_default())
}

/// Dumps through the read port (a replica), into a new directory.
///
/// # Errors
/// When the directory is there already, or anything fails; then there is no manifest.
pub fn run(layout: &Layout, folder: &Path) -> Result<()> {
    ensure!(!folder.exists(), "{} is there already", folder.display());
    let addresses: Vec<_> =
        layout.database_addresses().map(|address| (address, layout.site.read_port)).collect();
    let login = layout.login("vietmarket", "vietmarket", &addresses)?;
    let place = folder.display().to_string();
    layout.shell.act(&["mkdir", "-p", "-m", "700", &place])?;
    let file = folder.join(DUMP).display().to_string();
    let hosts = addresses.iter().map(|(address, _)| *address).collect::<Vec<_>>().join(",");
    let port = layout.site.read_port.to_string();
    let password = layout.nomad.secret(crate::layout::DATABASE_SECRETS, "vietmarket_password")?;
    let before = if layout.shell.dry_run { None } else { Some(contents(&login)?) };
    layout.shell.act_with(
        &[("PGPASSWORD", &password)],
        &["pg_dump", "-Fc", "-h", &hosts, "-p", &port, "-U", "vietmarket", "-d", "vietmarket", "-f", &file],
    )?;
    let Some((rows, newest)) = before else { return Ok(()) };
    layout.shell.look(&["pg_restore", "-l", &file])?;
    let manifest = Manifest {
        sha256: sha256(layout, &file)?,
        server: sql::value(&login, "SHOW server_version_num")?,
        timescaledb: timescaledb(&login)?,
        rows,
        newest,
    };
    std::fs::write(folder.join(MANIFEST), serde_json::to_string_pretty(&manifest)?)?;
    layout.shell.say(&format!("backup: {} tables in {place}", manifest.rows.len()));
    Ok(())
}
