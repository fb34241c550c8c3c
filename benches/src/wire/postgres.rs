//! A real PostgreSQL: one server without replicas, as fast as possible, with TLS for clients that ask for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{CertificateAuthority, Process, find_postgres};
use rustix::process::Signal;

use super::protocol::{DATABASE, USER};
use super::sandbox::Sandbox;

/// Where it listens.
pub(crate) const PORT: u16 = 5432;
/// More than every case needs, with some for probes and for the benchmark itself.
const MAX_CONNECTIONS: usize = 2300;
/// For initdb, and for pgbench to fill its tables.
const PREPARATION: Duration = Duration::from_secs(120);
/// A start may have to replay some WAL.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// The benchmark measures the way to the server, so the server should cost little and do nothing by itself.
const SETTINGS: &str = "
shared_buffers = 512MB
fsync = off
synchronous_commit = off
full_page_writes = off
max_wal_size = 4GB
autovacuum = off
jit = off
max_parallel_workers_per_gather = 0
hot_standby = on
ssl = on
log_line_prefix = '%m [%p] '
";

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    process: Option<Process>,
}

impl Postgres {
    /// Makes one with pgbench's tables at `scale`.
    pub(crate) fn start(sandbox: &Sandbox, scale: u32) -> Result<Self> {
        let data = sandbox.directory().join("postgres");
        let mut postgres = Self { programs: find_postgres()?, data: data.clone(), process: None };
        let mut initdb = sandbox.command(&sandbox.hosts.server, &postgres.program("initdb"));
        initdb
            .args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "-U", USER, "-D"])
            .arg(&data);
        sandbox.run("initdb", initdb, PREPARATION)?;
        postgres.configure(sandbox)?;
        postgres.launch(sandbox)?;
        postgres.sql("postgres", &format!("create database {DATABASE}"))?;
        let mut fill = sandbox.command(&sandbox.hosts.server, &postgres.program("pgbench"));
        fill.args(["-i", "-q", "-U", USER, "-s", &scale.to_string(), "-h"]).arg(&data).arg(DATABASE);
        sandbox.run("pgbench-init", fill, PREPARATION)?;
        // Otherwise this work would fall to the first setup that is measured.
        postgres.sql(DATABASE, "vacuum freeze analyze")?;
        postgres.sql(DATABASE, "create unlogged table sink (line text)")?;
        postgres.sql(DATABASE, "checkpoint")?;
        Ok(postgres)
    }

    /// One of PostgreSQL's programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Runs a statement as the superuser, over a Unix socket, and returns the rows as text.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let output = Command::new(self.program("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database, "-h"])
            .arg(&self.data)
            .args(["-c", statement])
            .env_remove("PGOPTIONS")
            .stdin(Stdio::null())
            .output()
            .context("starting psql")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{statement}: {}", errors.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Promotes it, if it is in recovery.
    pub(crate) fn promote(&self) -> Result<()> {
        let promote = "select case when pg_is_in_recovery() then pg_promote() else true end";
        ensure!(self.sql("postgres", promote)? == "t", "the server was not promoted");
        Ok(())
    }

    /// Restarts it in recovery, as a replica of no server.
    pub(crate) fn restart_in_recovery(&mut self, sandbox: &Sandbox) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            // Fast shutdown: sessions are terminated.
            process.signal(Signal::INT);
            process.wait(STOP)?;
        }
        fs::write(self.data.join("standby.signal"), "").context("writing standby.signal")?;
        self.launch(sandbox)
    }

    fn launch(&mut self, sandbox: &Sandbox) -> Result<()> {
        let mut command = sandbox.command(&sandbox.hosts.server, &self.program("postgres"));
        command.arg("-D").arg(&self.data).arg("-k").arg(&self.data);
        // Immediate shutdown: the server ends its backends and removes its shared memory.
        let mut process = sandbox.start("postgres", command)?.stop_with(Signal::QUIT);
        process.wait_until_ready(START, || self.sql("postgres", "select 1"))?;
        self.process = Some(process);
        Ok(())
    }

    fn configure(&self, sandbox: &Sandbox) -> Result<()> {
        let data = &self.data;
        let listen = sandbox.hosts.listen_address(PORT).ip();
        let settings = format!(
            "{SETTINGS}listen_addresses = '{listen}'\nport = {PORT}\nmax_connections = {MAX_CONNECTIONS}\n"
        );
        append(&data.join("postgresql.conf"), &settings)?;
        append(&data.join("pg_hba.conf"), "host all all all trust\n")?;
        // No client verifies it.
        let ca = CertificateAuthority::create("benchmark CA", sandbox.directory().join("ca.crt"))?;
        ca.issue(vec!["localhost".to_owned()], data, sandbox.user())
    }
}

fn append(file: &Path, text: &str) -> Result<()> {
    let known = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    fs::write(file, known + text).with_context(|| format!("writing {}", file.display()))
}
