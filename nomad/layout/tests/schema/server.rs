//! The three kinds of server that the schema has to do with: plain PostgreSQL, and TimescaleDB in both editions, all real.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The folder with the SQL.
pub(crate) fn database() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("database")
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tests")
}

/// A server of one test. Dropping it stops it and removes its files.
pub(crate) struct Server {
    host: String,
    port: u16,
    /// Dropped last, when the server has ended.
    _directory: Option<tempfile::TempDir>,
    below: Option<Below>,
    child: Option<Child>,
}

/// Where a server with files of its own is.
struct Below {
    root: PathBuf,
    owner: (u32, u32),
    programs: String,
    /// Its directory, as it sees it.
    inside: String,
}

/// What psql said.
pub(crate) struct Said {
    succeeded: bool,
    answer: String,
    messages: String,
}

impl Server {
    /// PostgreSQL of the machine, without TimescaleDB.
    pub(crate) fn plain() -> Self {
        Self::postgres(Path::new("/"), "/usr/lib/postgresql/15/bin", "")
    }

    /// PostgreSQL 17 with Debian's TimescaleDB, its Apache edition.
    pub(crate) fn apache() -> Self {
        Self::postgres(&apache_root(), "/usr/lib/postgresql/17/bin", "timescaledb")
    }

    /// The same, with the library left out of `shared_preload_libraries`.
    pub(crate) fn apache_not_loaded() -> Self {
        Self::postgres(&apache_root(), "/usr/lib/postgresql/17/bin", "")
    }

    /// `initdb` and a server below a root directory, as the user postgres of that root, on a socket in its own directory.
    fn postgres(root: &Path, programs: &str, libraries: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("schema-").tempdir_in(root.join("tmp")).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let owner = postgres_of(root);
        chown(directory.path(), Some(owner.0), Some(owner.1)).unwrap();
        // As the server sees it, below its root.
        let inside = format!("/{}", directory.path().strip_prefix(root).unwrap().display());
        let server = Self {
            host: directory.path().display().to_string(),
            port: 5432,
            below: Some(Below {
                root: root.to_owned(),
                owner,
                programs: programs.to_owned(),
                inside: inside.clone(),
            }),
            _directory: Some(directory),
            child: None,
        };
        server.program("initdb", &["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]);
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{inside}'\nfsync = off\n\
             dynamic_shared_memory_type = mmap\nshared_preload_libraries = '{libraries}'\n"
        );
        fs::write(Path::new(&server.host).join("data/postgresql.auto.conf"), settings).unwrap();
        server.start();
        server
    }

    /// Starts it, for the first time or after a crash.
    pub(crate) fn start(&self) {
        let log = self.below.as_ref().map(|below| format!("{}/log", below.inside)).unwrap();
        self.program("pg_ctl", &["-l", &log, "-w", "start"]);
    }

    /// Stops it, as a crash would.
    pub(crate) fn crash(&self) {
        self.program("pg_ctl", &["-m", "immediate", "-w", "stop"]);
    }

    /// One of PostgreSQL's programs on this server's data. Nobody reads its output: the server keeps it open.
    fn program(&self, program: &str, arguments: &[&str]) {
        let below = self.below.as_ref().expect("a server with files of its own");
        let status = inside_root(&below.root, below.owner)
            .arg(format!("{}/{program}", below.programs))
            .args(["-D", &format!("{}/data", below.inside)])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        let log = fs::read_to_string(Path::new(&self.host).join("log")).unwrap_or_default();
        assert!(status.success(), "{program} {arguments:?}: {log}");
    }

    /// TimescaleDB's community edition: PostgreSQL 17 as WebAssembly in node. It takes one connection at a time.
    pub(crate) fn community() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tests().join("timescaledb-community");
        assert!(folder.join("node_modules").exists(), "run nomad/tests/install");
        let mut child = Command::new("node")
            .arg("server.js")
            .arg(port.to_string())
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "node has ended");
        }
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Self { host: "127.0.0.1".to_owned(), port, _directory: None, below: None, child: Some(child) }
    }

    /// psql, on a database, with these arguments; nothing of the caller's environment but the path.
    pub(crate) fn psql(&self, database: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Said {
        let output = Command::new("psql")
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                &self.host,
                "-p",
                &self.port.to_string(),
            ])
            .args(["-U", "postgres", "-d", database])
            // PGlite has one session for all of its connections, with what the last one left.
            .args(if self.child.is_some() { &["-c", "ROLLBACK", "-c", "DEALLOCATE ALL"][..] } else { &[] })
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("PGPASSWORD", "postgres")
            .env("PGSSLMODE", "disable")
            .env("PGGSSENCMODE", "disable")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
        Said {
            succeeded: output.status.success(),
            answer: text(output.stdout),
            messages: text(output.stderr),
        }
    }

    /// As Patroni gives it to `post_bootstrap`.
    pub(crate) fn connection_string(&self) -> String {
        format!("dbname=postgres user=postgres host={} port={}", self.host, self.port)
    }

    /// Runs a file of the folder.
    pub(crate) fn file(&self, name: &str, require: &str) -> Said {
        let (file, require) = (database().join(name).display().to_string(), format!("require={require}"));
        self.psql("postgres", &[], &["-v", &require, "-f", &file])
    }

    /// Runs SQL that must succeed, and gives its answer.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.psql("postgres", &[], &["-c", sql]).passes()
    }

    /// Runs SQL after `queries.sql` has prepared its statements.
    pub(crate) fn prepared(&self, sql: &str) -> Said {
        let file = database().join("queries.sql").display().to_string();
        self.psql("postgres", &[], &["-f", &file, "-c", sql])
    }
}

impl Said {
    /// The answer of what has to succeed.
    pub(crate) fn passes(self) -> String {
        assert!(self.succeeded, "{}", self.messages);
        self.answer
    }

    /// The notices and warnings of what has to succeed.
    pub(crate) fn tells(self) -> String {
        assert!(self.succeeded, "{}", self.messages);
        self.messages
    }

    pub(crate) fn refuses(self, words: &[&str]) {
        assert!(!self.succeeded, "accepted: {}", self.answer);
        for word in words {
            assert!(self.messages.contains(word), "{word:?} is not in: {}", self.messages);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.below.is_some() && Path::new(&self.host).join("data/postmaster.pid").exists() {
            self.crash();
        }
    }
}

fn apache_root() -> PathBuf {
    let root =
        tests().join("../../target/timescaledb-apache").canonicalize().expect("run nomad/tests/install");
    assert!(root.join("complete").exists(), "{} is not complete: run nomad/tests/install", root.display());
    root
}

/// A command of a root directory, as one of its users.
fn inside_root(root: &Path, (uid, gid): (u32, u32)) -> Command {
    let mut command = Command::new("/usr/sbin/chroot");
    command
        .arg(format!("--userspec={uid}:{gid}"))
        .arg(root)
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// The user postgres of a root directory.
fn postgres_of(root: &Path) -> (u32, u32) {
    let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}
