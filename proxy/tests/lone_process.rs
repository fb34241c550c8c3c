//! The process without a cluster: its log, its descriptors, its addresses, its reloads and its exit codes.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

mod loopback;

/// Longer than any step takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const PROGRAM: &str = env!("CARGO_BIN_EXE_pg-leader-proxy");

/// A proxy of a list of members, on an address of its own. It is killed when this is dropped.
struct Lone {
    child: Child,
    address: Ipv4Addr,
    directory: TempDir,
}

impl Lone {
    /// Starts one whose log goes to a file, and waits until it answers.
    fn start(more: &str) -> Self {
        Self::launch(Command::new(PROGRAM), more, |log| log.into())
    }

    /// Starts the program that `command` runs.
    fn launch(mut command: Command, more: &str, stderr: impl FnOnce(File) -> Stdio) -> Self {
        let (address, directory) = (loopback::own_address(), tempfile::tempdir().unwrap());
        let log = stderr(File::create(directory.path().join("log")).unwrap());
        let file = directory.path().join("proxy.toml");
        fs::write(&file, config(address, more)).unwrap();
        command.args(["run", "--config"]).arg(file).stdin(Stdio::null()).stderr(log);
        let lone = Self { child: command.spawn().unwrap(), address, directory };
        lone.wait("the admin address answers", |lone| lone.get("/live").is_some());
        lone
    }

    fn write(&self) -> SocketAddr {
        (self.address, 5433).into()
    }

    fn config_file(&self) -> String {
        self.directory.path().join("proxy.toml").to_str().unwrap().to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// The body of the answer, if there is one.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((self.address, 9433)).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    fn metric(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics").unwrap();
        let line = metrics.lines().find(|line| line.starts_with(&format!("pg_leader_proxy_{name}")));
        let line = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < SOON, "never: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn reload(&self, more: &str) {
        fs::write(self.config_file(), config(self.address, more)).unwrap();
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn wait_end(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < SOON, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration with a member that refuses connections, unless `more` names others.
fn config(address: Ipv4Addr, more: &str) -> String {
    let members = if more.contains("cluster.members") { "" } else { "cluster.members = [\"127.0.0.1:1\"]\n" };
    format!(
        "{members}probe.user = \"monitor\"\nwrite.listen = [\"{address}:5433\"]\nadmin.listen = \"{address}:9433\"\n\
         session.workers = 2\nsession.drain_timeout = \"0s\"\n{more}\n"
    )
}

fn program(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A proxy that logs a lot into a pipe that nobody reads, until lines are dropped.
fn unread() -> Lone {
    let much = "log.filter = \"trace\"\nprobe.interval = \"10ms\"";
    let lone = Lone::launch(Command::new(PROGRAM), much, |_| Stdio::piped());
    lone.wait("lines are dropped", |lone| lone.metric("log_lines_dropped_total") > 0.0);
    assert_eq!(lone.get("/live").as_deref(), Some("alive\n"));
    lone
}

#[test]
fn a_log_that_nobody_reads_stops_neither_the_admin_address_nor_signals() {
    let mut lone = unread();
    lone.signal(Signal::TERM);
    assert!(lone.wait_end().success());
}

#[test]
fn a_log_that_is_read_again_tells_how_many_lines_are_missing() {
    let mut lone = unread();
    let log = BufReader::new(lone.child.stderr.take().unwrap());
    lone.reload("log.filter = \"warn\"\nprobe.interval = \"10ms\"");
    let told = log.lines().map(Result::unwrap).find(|line| line.contains("log lines dropped"));
    assert!(told.unwrap().contains("WARN"));
}

#[test]
fn a_reload_is_applied_completely_or_not_at_all() {
    let lone = Lone::start("write.hold_timeout = \"30s\"");
    lone.reload("log.filter = \"debug\"\nwrite.hold_timeout = \"31s\"");
    lone.wait("the first is applied", |lone| {
        lone.metric("config_reloads_total{cluster=\"static\",result=\"applied\"}") == 1.0
    });
    lone.wait("the filter is in force", |lone| lone.log().contains("DEBUG"));

    lone.reload("log.filter = \"info\"\nlog.format = \"json\"");
    lone.wait("the second is refused", |lone| {
        lone.log().contains("log.format can only change with a restart")
    });
    assert_eq!(lone.metric("config_reload_refused"), 1.0);
    let before = lone.log().matches("DEBUG").count();
    lone.wait("the filter has not changed", |lone| lone.log().matches("DEBUG").count() > before);

    lone.reload("log.filter = \"info\"");
    lone.wait("the third is applied", |lone| {
        lone.metric("config_reloads_total{cluster=\"static\",result=\"applied\"}") == 2.0
    });
    assert_eq!(lone.metric("config_reload_refused"), 0.0);
    assert!(lone.metric("config_age_seconds") < lone.metric("uptime_seconds"));
}

#[test]
fn an_address_is_not_shared_by_mistake() {
    let first = Lone::start("cluster.scope = \"one\"");
    let taken = first.write().to_string();
    let other = first.directory.path().join("other.toml");
    let text = config(first.address, "cluster.scope = \"other\"").replace(":9433", ":9434");
    fs::write(&other, text).unwrap();
    let other = other.to_str().unwrap();
    let second = program(&["run", "--config", other]);
    assert_eq!(second.status.code(), Some(1), "{}", words(&second));
    assert!(words(&second).contains(&format!("write.listen: cannot listen on {taken}, because another")));
    let check = program(&["check", "--connect", "--config", other]);
    assert!(
        words(&check).contains(&format!("error    write.listen {taken}: not available")),
        "{}",
        words(&check)
    );
    let own = program(&["check", "--connect", "--config", &first.config_file()]);
    assert!(
        words(&own).contains(&format!("ok       write.listen {taken}: in use; the proxy of this")),
        "{}",
        words(&own)
    );
}

#[test]
fn a_successor_shares_the_addresses_when_both_ask_for_it() {
    let mut first = Lone::start("session.so_reuseport = true");
    let log = first.directory.path().join("second");
    let mut second = Command::new(PROGRAM)
        .args(["run", "--config", &first.config_file()])
        .stdin(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    first.wait("the second listens", |_| fs::read_to_string(&log).unwrap().contains("listening"));
    first.signal(Signal::TERM);
    assert!(first.wait_end().success());
    assert_eq!(first.get("/live").as_deref(), Some("alive\n"), "the second answers");
    TcpStream::connect(first.write()).unwrap();
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn status_reads_the_configuration_and_its_exit_code_says_what_it_found() {
    let mut lone = Lone::start("");
    let file = lone.config_file();
    let status = || program(&["status", "--config", &file]);
    let held = status();
    assert_eq!(held.status.code(), Some(1), "{}", words(&held));
    assert!(words(&held).contains("writes wait"), "{}", words(&held));
    assert_eq!(program(&["status", "--config", &file, "--json"]).status.code(), Some(1));
    lone.signal(Signal::TERM);
    lone.wait_end();
    let gone = status();
    assert_eq!(gone.status.code(), Some(2), "{}", words(&gone));
    assert!(words(&gone).contains(&format!("{}:9433", lone.address)), "{}", words(&gone));
    let nowhere = program(&["status", "--config", "/nowhere.toml"]);
    assert_eq!(nowhere.status.code(), Some(78), "{}", words(&nowhere));
}

#[test]
fn a_password_that_is_no_text_is_named() {
    let check = Command::new(PROGRAM)
        .args(["check", "--member", "127.0.0.1:1", "--probe-user", "monitor"])
        .env("PGLP_PROBE_PASSWORD", OsStr::from_bytes(b"caf\xe9"))
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(78), "{}", words(&check));
    let told = words(&check);
    assert!(told.contains("PGLP_PROBE_PASSWORD is not valid UTF-8") && !told.contains("caf"), "{told}");
}

#[test]
fn silent_clients_take_no_descriptor_from_probes_and_the_admin_address() {
    let member = TcpListener::bind("127.0.0.1:0").unwrap();
    let members =
        format!("cluster.members = [\"{}\"]\nprobe.interval = \"50ms\"", member.local_addr().unwrap());
    let probes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&probes);
    std::thread::spawn(move || {
        for probe in member.incoming() {
            drop(probe);
            count.fetch_add(1, Relaxed);
        }
    });
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=48:48", PROGRAM]);
    let lone = Lone::launch(limited, &members, |log| log.into());
    let connect = || TcpStream::connect(lone.write()).unwrap();
    let silent: Vec<TcpStream> = (0..80).map(|_| connect()).collect();
    let (lines, probed) = (lone.log().lines().count(), probes.load(Relaxed));
    lone.wait("servers are still probed", |_| probes.load(Relaxed) > probed + 40);
    // More than the descriptors that are left to the admin address.
    let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect((lone.address, 9433)).unwrap()).collect();
    assert_eq!(lone.get("/live").as_deref(), Some("alive\n"));
    let log = lone.log();
    assert!(log.contains("the limit of open files allows fewer sessions than session.max_sessions"), "{log}");
    assert!(!log.contains("cannot accept"), "{log}");
    let more = log.lines().skip(lines).count();
    assert!(more < 10, "{more} lines in two seconds: {log}");
    drop((silent, idle));
}
