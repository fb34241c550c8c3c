//! One PostgreSQL server of a chosen version, with SCRAM, TLS and the users that the tests need.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::certificates::Certificates;
use crate::{Leashed, Loopback, Scratch, places};

/// A major version of PostgreSQL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd)]
pub struct Major(pub u8);

impl Major {
    /// The newest one; its protocol has everything that the older ones have, and 3.2.
    pub const NEWEST: Self = Self(18);
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A running server. Dropping it ends it and removes its files.
#[derive(Debug)]
pub struct Server {
    /// Its version.
    pub major: Major,
    /// The address it and everything around it uses.
    pub loopback: Loopback,
    /// Its certificate and the authorities, in files.
    pub certificates: Certificates,
    process: Leashed,
}

/// The database's name, and the user that owns it.
pub const APP: &str = "app";
/// Every user's password. It has the characters that URLs, SQL and shells each treat specially.
pub const PASSWORD: &str = "pa'ss %2F$ö";
/// The user that the proxy asks with: it may log in, and nothing else.
pub const MONITOR: &str = "monitor";
/// The user that may replicate.
pub const REPLICATOR: &str = "replicator";

impl Server {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// When the version is not installed or the server does not start; its log is in the error.
    pub fn start(major: Major) -> Result<Self> {
        let home = places::postgres(major)?;
        let loopback = Loopback::pick()?;
        let directory = Scratch::new("server")?;
        let certificates = Certificates::make(directory.path(), loopback.ip())?;
        make_cluster(&home, directory.path(), &certificates, loopback)?;
        let mut argv = as_owner();
        argv.extend([home.join("bin/postgres"), "-D".into(), directory.join("data")].map(text));
        let process = Leashed::start("PostgreSQL", directory, "QUIT", &argv, &[])?;
        let mut server = Self { major, loopback, certificates, process };
        let address = server.loopback.server();
        server.process.wait_until(START, || Ok(psql(address, "postgres", "postgres", "SELECT 1").is_ok()))?;
        server.make_users()?;
        Ok(server)
    }

    /// Runs SQL as the superuser, beside the proxy; gives the rows as text, one per line, columns divided by `|`.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn sql(&self, sql: &str) -> Result<String> {
        psql(self.loopback.server(), "postgres", APP, sql)
    }

    /// The server's data directory.
    #[must_use]
    pub fn data(&self) -> std::path::PathBuf {
        self.process.directory().join("data")
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn make_users(&self) -> Result<()> {
        let password = PASSWORD.replace('\'', "''");
        for sql in [
            format!("CREATE ROLE {MONITOR} LOGIN PASSWORD '{password}'"),
            format!("CREATE ROLE {APP} LOGIN PASSWORD '{password}'"),
            format!("CREATE ROLE {REPLICATOR} LOGIN REPLICATION PASSWORD '{password}'"),
            format!("CREATE DATABASE {APP} OWNER {APP}"),
        ] {
            psql(self.loopback.server(), "postgres", "postgres", &sql)?;
        }
        // Clients that watch the server's list of sessions must see other users' sessions too.
        self.sql(&format!("GRANT pg_read_all_stats TO {APP}"))?;
        Ok(())
    }
}

/// Runs Debian's psql against an address, for the tests' own questions.
///
/// # Errors
/// When psql fails; what it said is in the error.
pub fn psql(address: std::net::SocketAddr, user: &str, database: &str, sql: &str) -> Result<String> {
    let output = Command::new("psql")
        .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .env("PGHOST", address.ip().to_string())
        .env("PGPORT", address.port().to_string())
        .envs([("PGUSER", user), ("PGDATABASE", database), ("PGPASSWORD", PASSWORD)])
        .envs([("PGCONNECT_TIMEOUT", "10"), ("PGOPTIONS", "-c statement_timeout=60s")])
        .stdin(Stdio::null())
        .output()
        .context("run psql")?;
    said(&output, "psql")
}

fn make_cluster(
    home: &Path,
    directory: &Path,
    certificates: &Certificates,
    loopback: Loopback,
) -> Result<()> {
    let data = directory.join("data");
    let password = directory.join("password");
    fs::create_dir(&data)?;
    fs::write(&password, PASSWORD)?;
    give_to_owner(directory)?;
    let mut argv = as_owner();
    argv.extend([home.join("bin/initdb"), "-D".into(), data.clone(), "--pwfile".into(), password].map(text));
    argv.extend(
        ["-U", "postgres", "--auth=scram-sha-256", "--no-sync", "--locale=C", "--encoding=UTF8"]
            .map(str::to_owned),
    );
    let output = Command::new(&argv[0]).args(&argv[1..]).current_dir("/").stdin(Stdio::null()).output();
    said(&output.context("run initdb")?, "initdb")?;
    fs::copy(&certificates.server, data.join("server.crt"))?;
    fs::copy(&certificates.key, data.join("server.key"))?;
    restrict(&data.join("server.key"))?;
    let ours = format!("listen_addresses = '{}'\n{SETTINGS}", loopback.ip());
    let conf = data.join("postgresql.conf");
    fs::write(&conf, fs::read_to_string(&conf)? + &ours)?;
    fs::write(data.join("pg_hba.conf"), ACCESS)?;
    give_to_owner(directory)
}

/// PostgreSQL refuses a key that others can read.
fn restrict(key: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(key, fs::Permissions::from_mode(0o600))?)
}

/// PostgreSQL refuses to run as root.
fn as_owner() -> Vec<String> {
    if !rustix::process::getuid().is_root() {
        return Vec::new();
    }
    ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"].map(str::to_owned).to_vec()
}

fn give_to_owner(directory: &Path) -> Result<()> {
    if rustix::process::getuid().is_root() {
        let output = Command::new("chown").args(["-R", "postgres:postgres"]).arg(directory).output();
        said(&output.context("run chown")?, "chown")?;
    }
    Ok(())
}

fn said(output: &Output, program: &str) -> Result<String> {
    if !output.status.success() {
        bail!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// `fsync` is off because no test outlives its machine; WAL is logical so that each kind of replication can be shown.
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

const ACCESS: &str = "\
host all all 0.0.0.0/0 scram-sha-256
host replication all 0.0.0.0/0 scram-sha-256
";

/// Starting takes a second; a machine busy with other tests gets more.
const START: Duration = Duration::from_secs(60);
