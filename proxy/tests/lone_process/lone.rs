//! A proxy process of a list of members, and the program's answers.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::loopback;

/// Longer than any step takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_pg-leader-proxy");

/// A proxy of a list of members, on an address of its own. It is killed when this is dropped.
pub(crate) struct Lone {
    pub(crate) child: Child,
    pub(crate) address: Ipv4Addr,
    pub(crate) directory: TempDir,
}

impl Lone {
    /// Starts one whose log goes to a file, and waits until it answers.
    pub(crate) fn start(more: &str) -> Self {
        Self::launch(Command::new(PROGRAM), more, |log| log.into())
    }

    /// Starts the program that `command` runs.
    pub(crate) fn launch(mut command: Command, more: &str, stderr: impl FnOnce(File) -> Stdio) -> Self {
        let (address, directory) = (loopback::own_address(), tempfile::tempdir().unwrap());
        let log = stderr(File::create(directory.path().join("log")).unwrap());
        let file = directory.path().join("proxy.toml");
        fs::write(&file, config(address, more)).unwrap();
        command.args(["run", "--config"]).arg(file).stdin(Stdio::null()).stderr(log);
        let lone = Self { child: command.spawn().unwrap(), address, directory };
        lone.wait("the admin address answers", |lone| lone.get("/live").is_some());
        lone
    }

    pub(crate) fn write(&self) -> SocketAddr {
        (self.address, 5433).into()
    }

    pub(crate) fn config_file(&self) -> String {
        self.directory.path().join("proxy.toml").to_str().unwrap().to_owned()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// The body of the answer, if there is one.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((self.address, 9433)).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics").unwrap();
        let line = metrics.lines().find(|line| line.starts_with(&format!("pg_leader_proxy_{name}")));
        let line = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    pub(crate) fn wait(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < SOON, "never: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn reload(&self, more: &str) {
        fs::write(self.config_file(), config(self.address, more)).unwrap();
        self.signal(Signal::HUP);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn wait_end(&mut self) -> ExitStatus {
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
pub(crate) fn config(address: Ipv4Addr, more: &str) -> String {
    let named = more.contains("cluster.members") || more.contains("etcd.endpoints");
    let members = if named { "" } else { "cluster.members = [\"127.0.0.1:1\"]\n" };
    format!(
        "{members}probe.user = \"monitor\"\nwrite.listen = [\"{address}:5433\"]\nadmin.listen = \"{address}:9433\"\n\
         session.workers = 2\nsession.drain_timeout = \"0s\"\n{more}\n"
    )
}

/// A server that hangs up on everybody, and how many came.
pub(crate) fn member() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            drop(client);
            counted.fetch_add(1, Relaxed);
        }
    });
    (address, count)
}

pub(crate) fn program(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

pub(crate) fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
