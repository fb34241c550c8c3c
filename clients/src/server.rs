//! One PostgreSQL server of a chosen version, with SCRAM, TLS and the users that the tests need.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{CertificateAuthority, Process, Reaper, User};
use rustix::process::Signal;

use crate::addresses::Addresses;
use crate::installed;

/// The name of the application's database and of the user that owns it.
pub const APP: &str = "app";
/// Every user's password. It has characters that are special in URLs, in SQL and in shells.
pub const PASSWORD: &str = "pa'ss %2F$ö";
/// The user of the proxy's probe, which may only log in.
pub const MONITOR: &str = "monitor";
/// The user that may replicate.
pub const REPLICATOR: &str = "replicator";

/// A start takes a second, and longer on a machine busy with other tests.
const START: Duration = Duration::from_secs(60);

/// `fsync` is off because no test outlives its machine. WAL is logical to allow every kind of replication.
const SETTINGS: &str = "
port = 5432
unix_socket_directories = ''
ssl = on
password_encryption = 'scram-sha-256'
fsync = off
shared_buffers = 32MB
max_connections = 60
wal_level = logical
max_wal_senders = 6
max_replication_slots = 4
log_connections = on
";

const HBA: &str = "\
host all all 0.0.0.0/0 scram-sha-256
host replication all 0.0.0.0/0 scram-sha-256
";

/// A major version of PostgreSQL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd)]
pub struct Major(pub u8);

impl Major {
    /// The newest one. Its protocol has everything that the older ones have, and 3.2.
    pub const NEWEST: Self = Self(18);
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A running server. Dropping it stops it and removes its files.
#[derive(Debug)]
pub struct Server {
    /// Its version.
    pub major: Major,
    /// Where it, its proxy and its recorders listen.
    pub addresses: Addresses,
    /// The file of the CA that signed its certificate. The certificate is for the address that clients use, which is the
    /// proxy's: TLS passes through.
    pub ca: PathBuf,
    /// The file of a CA that signed nothing. A client that trusts only this one must refuse the server.
    pub other_ca: PathBuf,
    process: Process,
    reaper: Reaper,
}

impl Server {
    /// Makes a database cluster and starts its server.
    ///
    /// # Errors
    /// When the version is not installed or the server does not start. The error has the end of its log.
    pub fn start(major: Major) -> Result<Self> {
        let bin = installed::postgres(major)?.join("bin");
        let user = User::for_postgres()?;
        let addresses = Addresses::take()?;
        let reaper = Reaper::start(&user)?;
        let directory = reaper.directory();
        let data = directory.join("data");
        initdb(&bin, directory, &user, addresses.ip())?;
        let ca = CertificateAuthority::create("test CA", directory.join("ca.crt"))?;
        let other_ca = CertificateAuthority::create("other CA", directory.join("other-ca.crt"))?;
        ca.issue(vec![addresses.ip().to_string()], &data, &user)?;
        let mut command = user.command(&bin.join("postgres"));
        command.arg("-D").arg(&data);
        // Immediate shutdown: the server ends its backends and removes its shared memory.
        let process = Process::start(&reaper, "postgres", command, directory)?.stop_with(Signal::QUIT);
        let (ca, other_ca) = (ca.file().to_owned(), other_ca.file().to_owned());
        let mut server = Self { major, addresses, ca, other_ca, process, reaper };
        let address = server.address();
        server.process.wait_until_ready(START, || psql(address, "postgres", "postgres", "SELECT 1"))?;
        server.create_users()?;
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses.server()
    }

    /// Runs SQL as the superuser, not through the proxy. Returns the rows as text, one per line, with `|` between columns.
    ///
    /// # Errors
    /// When the server reports an error.
    pub fn sql(&self, sql: &str) -> Result<String> {
        psql(self.address(), "postgres", APP, sql)
    }

    /// The server's data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.reaper.directory().join("data")
    }

    /// What it has logged so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    fn create_users(&self) -> Result<()> {
        let password = PASSWORD.replace('\'', "''");
        for sql in [
            format!("CREATE ROLE {MONITOR} LOGIN PASSWORD '{password}'"),
            format!("CREATE ROLE {APP} LOGIN PASSWORD '{password}'"),
            format!("CREATE ROLE {REPLICATOR} LOGIN REPLICATION PASSWORD '{password}'"),
            format!("CREATE DATABASE {APP} OWNER {APP}"),
        ] {
            psql(self.address(), "postgres", "postgres", &sql)?;
        }
        // Clients that poll pg_stat_activity must see the sessions of other users.
        self.sql(&format!("GRANT pg_read_all_stats TO {APP}"))?;
        Ok(())
    }
}

fn psql(address: SocketAddr, user: &str, database: &str, sql: &str) -> Result<String> {
    let mut command = Command::new("psql");
    command
        .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .env("PGHOST", address.ip().to_string())
        .env("PGPORT", address.port().to_string())
        .envs([("PGUSER", user), ("PGDATABASE", database), ("PGPASSWORD", PASSWORD)])
        .envs([("PGCONNECT_TIMEOUT", "10"), ("PGOPTIONS", "-c statement_timeout=60s")]);
    output_of(&mut command)
}

/// Makes the database cluster `data` in `directory`.
fn initdb(bin: &Path, directory: &Path, user: &User, address: IpAddr) -> Result<()> {
    let (data, password) = (directory.join("data"), directory.join("password"));
    fs::write(&password, PASSWORD)?;
    let mut command = user.command(&bin.join("initdb"));
    command.arg("-D").arg(&data).arg("--pwfile").arg(&password).current_dir(directory);
    command.args(["-U", "postgres", "--auth=scram-sha-256", "--no-sync", "--locale=C", "--encoding=UTF8"]);
    output_of(&mut command)?;
    let conf = data.join("postgresql.conf");
    let settings = format!("listen_addresses = '{address}'\n{SETTINGS}");
    fs::write(&conf, fs::read_to_string(&conf)? + &settings)?;
    Ok(fs::write(data.join("pg_hba.conf"), HBA)?)
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {errors}", command.get_program().display(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
