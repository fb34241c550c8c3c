//! The rehearsal of a restore: a server of its own, on a port of its own, that is compared with the manifest and thrown away. No
//! live address is touched.

use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::backup::{self, DUMP, MANIFEST, Manifest};
use crate::layout::Layout;
use crate::sql;

/// Ports that belong to live servers.
const LIVE: [u16; 3] = [5432, 5433, 5434];

/// A server that ends with this.
struct Scratch<'a> {
    layout: &'a Layout,
    programs: &'a str,
    place: String,
    port: u16,
}

/// Restores the backup of a folder into a scratch server with these programs, and compares.
///
/// # Errors
/// When the dump is not the manifest's, cannot be restored, or holds something else.
pub fn rehearse(layout: &Layout, folder: &Path, programs: &str) -> Result<()> {
    let text = std::fs::read_to_string(folder.join(MANIFEST))
        .with_context(|| format!("{} is no backup", folder.display()))?;
    let manifest: Manifest = serde_json::from_str(&text).context("the manifest")?;
    let dump = folder.join(DUMP).display().to_string();
    let hash = backup::sha256(layout, &dump)?;
    ensure!(hash == manifest.sha256, "{dump} is not what the manifest is of: its sha256 is {hash}");
    if layout.shell.dry_run {
        layout.shell.say("? initdb on a free port, pg_restore, the counts of the manifest");
        return Ok(());
    }
    let scratch = Scratch::start(layout, programs, &manifest)?;
    scratch.restore(&dump, &manifest)?;
    let login = sql::login("postgres", "", "vietmarket", &[("127.0.0.1", scratch.port)]);
    let (rows, newest) = backup::contents(&login)?;
    // What the writers of a drill leave for a moment is no difference.
    for (table, count) in &manifest.rows {
        let found = rows.get(table);
        ensure!(found == Some(count), "{table} has {found:?} rows, {count} in the manifest");
    }
    ensure!(
        newest == manifest.newest,
        "the newest candles are {newest:?}, {:?} in the manifest",
        manifest.newest
    );
    layout
        .shell
        .say(&format!("restored: {} tables with the rows of the manifest, newest {newest:?}", rows.len()));
    Ok(())
}

impl<'a> Scratch<'a> {
    fn start(layout: &'a Layout, programs: &'a str, manifest: &Manifest) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        ensure!(!LIVE.contains(&port), "the free port {port} is a live server's");
        let place = layout.shell.look(&["mktemp", "-d", "/tmp/restore-XXXXXXXX"])?.trim().to_owned();
        let scratch = Self { layout, programs, place, port };
        if scratch.is_root() {
            layout.shell.look(&["chown", "postgres:", &scratch.place])?;
        }
        let data = format!("{}/data", scratch.place);
        scratch.run(
            "initdb",
            &["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"],
        )?;
        let library =
            if manifest.timescaledb.is_empty() { "" } else { "-c shared_preload_libraries=timescaledb" };
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -k {} -c fsync=off {library}",
            scratch.place
        );
        let log = format!("{}/log", scratch.place);
        scratch.run("pg_ctl", &["-D", &data, "-l", &log, "-o", &options, "-w", "start"])?;
        Ok(scratch)
    }

    fn restore(&self, dump: &str, manifest: &Manifest) -> Result<()> {
        let admin = sql::login("postgres", "", "postgres", &[("127.0.0.1", self.port)]);
        sql::column(&admin, "CREATE ROLE vietmarket LOGIN")?;
        sql::column(&admin, "CREATE DATABASE vietmarket OWNER vietmarket")?;
        let login = sql::login("postgres", "", "vietmarket", &[("127.0.0.1", self.port)]);
        if !manifest.timescaledb.is_empty() {
            // The dump holds TimescaleDB's catalogue, which only the same version reads.
            sql::column(&login, &format!("CREATE EXTENSION timescaledb VERSION '{}'", manifest.timescaledb))?;
            sql::column(&login, "SELECT timescaledb_pre_restore()")?;
        }
        let port = self.port.to_string();
        let program = format!("{}/pg_restore", self.programs);
        let command = [
            program.as_str(),
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            "-d",
            "vietmarket",
            "--exit-on-error",
            dump,
        ];
        self.layout.shell.look(&command)?;
        if !manifest.timescaledb.is_empty() {
            sql::column(&login, "SELECT timescaledb_post_restore()")?;
        }
        Ok(())
    }

    fn is_root(&self) -> bool {
        self.layout.shell.look(&["id", "-u"]).is_ok_and(|id| id.trim() == "0")
    }

    /// One of PostgreSQL's programs; as root, which it refuses, as the user postgres. Its output goes nowhere: a server keeps it.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let program = format!("{}/{program}", self.programs);
        let mut command = vec!["sh", "-c", "exec \"$@\" >/dev/null", "run"];
        if self.is_root() {
            command.extend(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        command.push(&program);
        command.extend(arguments);
        self.layout.shell.look(&command).map(drop)
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let data = format!("{}/data", self.place);
        let _ = self.run("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]);
        let _ = self.layout.shell.look(&["rm", "-rf", "--", &self.place]);
    }
}
