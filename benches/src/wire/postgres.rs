//! The real PostgreSQL: one server without replicas, as fast as it goes, with TLS for those who ask.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{CertificateAuthority, Process, User, find_postgres};
use rustix::process::Signal;

use super::protocol::{DATABASE, USER};
use super::workshop::{Job, Workshop, until_it_works, words};

/// Where it listens.
pub const PORT: u16 = 5432;
/// Above every case, with a few for probes and for us.
const MAX_CONNECTIONS: usize = 2300;
/// initdb, and the making of pgbench's tables.
const PREPARATION: Duration = Duration::from_secs(120);
/// A start, which may have to replay a little.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// It measures the way to the server, so the server itself should cost little and do nothing of its own accord.
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

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    process: Option<Process>,
}

impl Postgres {
    /// Makes one with pgbench's tables at `scale`.
    ///
    /// # Errors
    /// When a program is missing (the error says what to install) or fails.
    pub fn start(workshop: &Workshop, scale: u32) -> Result<Self> {
        let data = workshop.directory().join("postgres");
        let mut postgres = Self { programs: find_postgres()?, data: data.clone(), process: None };
        let mut arguments =
            words(&["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "-U", USER, "-D"]);
        arguments.push(data.as_os_str());
        let initdb = Job { name: "initdb", arguments: &arguments, environment: &[] };
        workshop.run(&workshop.hosts.server, &postgres.program("initdb"), &initdb, PREPARATION)?;
        postgres.configure(workshop)?;
        postgres.launch(workshop)?;
        postgres.sql("postgres", &format!("create database {DATABASE}"))?;
        let scale = scale.to_string();
        let mut arguments = words(&["-i", "-q", "-U", USER, "-s", &scale, "-h"]);
        arguments.extend([data.as_os_str(), OsStr::new(DATABASE)]);
        let fill = Job { name: "pgbench-init", arguments: &arguments, environment: &[] };
        workshop.run(&workshop.hosts.server, &postgres.program("pgbench"), &fill, PREPARATION)?;
        // What a run would else do for the first contender only.
        postgres.sql(DATABASE, "vacuum freeze analyze")?;
        postgres.sql(DATABASE, "create unlogged table sink (line text)")?;
        postgres.sql(DATABASE, "checkpoint")?;
        Ok(postgres)
    }

    /// One of PostgreSQL's programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Asks it as the superuser, over its socket in the file system, and returns the first column of the first row.
    ///
    /// # Errors
    /// PostgreSQL's own.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let output = Command::new(self.program("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database, "-h"])
            .arg(&self.data)
            .args(["-c", statement])
            .env_remove("PGOPTIONS")
            .stdin(Stdio::null())
            .output()
            .context("starting psql")?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{statement}: {}", words.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Sees to it that it is out of recovery.
    ///
    /// # Errors
    /// When it does not answer, or is not promoted within the minute that PostgreSQL gives it.
    pub fn lead(&self) -> Result<()> {
        let promote = "select case when pg_is_in_recovery() then pg_promote() else true end";
        ensure!(self.sql("postgres", promote)? == "t", "the server was not promoted");
        Ok(())
    }

    /// Starts it anew in recovery, following nobody, until it is promoted.
    ///
    /// # Errors
    /// When it does not stop or start in time.
    pub fn restart_in_recovery(&mut self, workshop: &Workshop) -> Result<()> {
        self.stop()?;
        fs::write(self.data.join("standby.signal"), "").context("writing standby.signal")?;
        self.launch(workshop)
    }

    fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        // Fast shutdown ("Shutting Down the Server" in the manual): sessions are ended.
        process.signal(Signal::INT);
        process.wait(STOP).map(drop)
    }

    fn launch(&mut self, workshop: &Workshop) -> Result<()> {
        let data = &self.data;
        let arguments = [OsStr::new("-D"), data.as_os_str(), OsStr::new("-k"), data.as_os_str()];
        let job = Job { name: "postgres", arguments: &arguments, environment: &[] };
        let process = workshop.start(&workshop.hosts.server, &self.program("postgres"), &job)?;
        let process = self.process.insert(process);
        let id = process.id();
        until_it_works(START, || self.sql("postgres", "select 1"))
            .with_context(|| format!("PostgreSQL (process {id}) does not answer"))?;
        self.process.as_mut().map_or(Ok(()), Process::check_running)
    }

    fn configure(&self, workshop: &Workshop) -> Result<()> {
        let data = &self.data;
        let listen = workshop.hosts.listen_address(PORT).ip();
        let settings = format!(
            "{SETTINGS}listen_addresses = '{listen}'\nport = {PORT}\nmax_connections = {MAX_CONNECTIONS}\n"
        );
        append(&data.join("postgresql.conf"), &settings)?;
        append(&data.join("pg_hba.conf"), "host all all all trust\n")?;
        // Nobody verifies it.
        let ca = CertificateAuthority::create("benchmark CA", workshop.directory().join("ca.crt"))?;
        ca.issue(vec!["localhost".to_owned()], data, &User::for_postgres()?)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Immediate shutdown: nothing is kept, but every process goes with the first.
            process.signal(Signal::QUIT);
            let _ = process.wait(STOP);
        }
    }
}

fn append(file: &Path, text: &str) -> Result<()> {
    let known = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    fs::write(file, known + text).with_context(|| format!("writing {}", file.display()))
}
