//! Real PostgreSQL servers, each with its own loopback address and directory.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pg_leader_proxy_core::ServerAddr;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio_postgres::NoTls;

use crate::loopback::own_address;

/// The user to run PostgreSQL as, because it refuses to run as root.
const USER: &str = "postgres";

/// The directory of the programs, unless `PGLP_TEST_PG_BIN` names that of another version.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// `postgres` is trusted; all other users need a password.
const HBA: &str = "host replication postgres 127.0.0.0/8 trust
host all postgres 127.0.0.0/8 trust
host all stranger 127.0.0.0/8 reject
host all all 127.0.0.0/8 scram-sha-256
";

/// A server. It is killed when this is dropped or the thread of its test ends.
pub(crate) struct Postgres {
    pub(crate) address: Ipv4Addr,
    directory: TempDir,
    child: Option<Child>,
}

impl Postgres {
    /// A running server of a new cluster, with the user `monitor`, which has no privileges.
    pub(crate) async fn primary(settings: &[&str]) -> Self {
        let mut server = Self::initialized(settings);
        server.start().await;
        server.execute("CREATE USER monitor PASSWORD 'monitorpw'; CREATE USER stranger PASSWORD 'x'").await;
        server
    }

    /// A server of a new cluster, not started.
    pub(crate) fn initialized(settings: &[&str]) -> Self {
        let server = Self::empty();
        let data = server.data();
        let initdb = ["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"];
        done(program("initdb").args(initdb).arg("--pgdata").arg(&data));
        fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        server.set("fsync = off");
        // The default before PostgreSQL 14 is md5.
        server.set("password_encryption = 'scram-sha-256'");
        for setting in settings {
            server.set(setting);
        }
        server
    }

    /// A running replica that streams from `primary`. It is made by a copy, because not every installation has
    /// pg_basebackup.
    pub(crate) async fn replica(primary: &mut Self) -> Self {
        primary.signal(Signal::INT);
        primary.wait().await;
        let mut server = Self::empty();
        done(Command::new("cp").arg("--archive").arg(primary.data()).arg(server.data()));
        primary.start().await;
        fs::write(server.data().join("standby.signal"), "").unwrap();
        server.set(&format!("primary_conninfo = 'host={} port=5432 user=postgres'", primary.address));
        server.start().await;
        server
    }

    fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        if geteuid().is_root() {
            let id = |flag| {
                let output = Command::new("id").args([flag, USER]).output().unwrap();
                String::from_utf8(output.stdout)
                    .unwrap()
                    .trim()
                    .parse::<u32>()
                    .expect("there is no user postgres")
            };
            chown(directory.path(), Some(id("-u")), Some(id("-g"))).unwrap();
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self { address: own_address(), directory, child: None }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn addr(&self) -> ServerAddr {
        ServerAddr::new(&self.address.to_string(), 5432)
    }

    /// Adds a line to the configuration.
    pub(crate) fn set(&self, setting: &str) {
        let mut file = File::options().append(true).open(self.data().join("postgresql.conf")).unwrap();
        writeln!(file, "{setting}").unwrap();
    }

    /// Starts it and waits until it accepts connections.
    pub(crate) async fn start(&mut self) {
        self.launch();
        let give_up = Instant::now() + Duration::from_secs(60);
        while self.connect().await.is_none() {
            let running = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none());
            if !running || Instant::now() > give_up {
                panic!("the server does not start; its log:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it without waiting.
    pub(crate) fn launch(&mut self) {
        let log = File::options().append(true).create(true).open(self.directory.path().join("log")).unwrap();
        let child = program("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-c", &format!("listen_addresses={}", self.address), "-c", "port=5432"])
            .args(["-c", "unix_socket_directories="])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    async fn connect(&self) -> Option<tokio_postgres::Client> {
        let config = format!("host={} user=postgres dbname=postgres connect_timeout=5", self.address);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// Runs statements as superuser.
    pub(crate) async fn execute(&self, statements: &str) {
        self.connect().await.unwrap().batch_execute(statements).await.unwrap();
    }

    /// Selects one value as superuser, as text.
    pub(crate) async fn value(&self, expression: &str) -> String {
        let client = self.connect().await.unwrap();
        let row = client.query_one(&format!("SELECT ({expression})::text"), &[]).await.unwrap();
        row.get(0)
    }

    /// Sends a signal to the postmaster; SIGINT requests a fast shutdown.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Sends a signal to the postmaster and to all its backends.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let postmaster = self.pid();
        let number = postmaster.as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{number}/task/{number}/children")).unwrap();
        for child in children.split_whitespace() {
            let _ = kill_process(Pid::from_raw(child.parse().unwrap()).unwrap(), signal);
        }
        self.signal(signal);
    }

    fn pid(&self) -> Pid {
        let child = self.child.as_ref().unwrap();
        Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
    }

    /// Waits until it has exited. The probes run meanwhile, because the server waits for those that are logging in.
    pub(crate) async fn wait(&mut self) {
        let mut child = self.child.take().unwrap();
        while child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.signal_all(Signal::KILL);
            self.child.take().unwrap().wait().unwrap();
        }
    }
}

/// A program of PostgreSQL, run as `postgres`.
fn program(name: &str) -> Command {
    let directory = std::env::var_os("PGLP_TEST_PG_BIN").unwrap_or_else(|| PROGRAMS.into());
    let path = Path::new(&directory).join(name);
    assert!(path.exists(), "{} is missing: install postgresql-15 or set PGLP_TEST_PG_BIN", path.display());
    let mut command = Command::new("setpriv");
    if geteuid().is_root() {
        command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL"]).arg(path).stdin(Stdio::null()).env("LC_ALL", "C").current_dir("/");
    command
}

fn done(command: &mut Command) {
    let output = command.output().expect("setpriv (util-linux) must be on the PATH");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
