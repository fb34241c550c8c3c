//! A proxy process on an address of its own, with its configuration and its log in a directory of its own.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::loopback;

/// Longer than any step takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_pg-leader-proxy");
/// A start-up packet of protocol 3.0 for the user `anna`.
pub(crate) const STARTUP: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0anna\0\0";

/// The process. It is killed when this is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) address: Ipv4Addr,
    pub(crate) directory: TempDir,
}

impl Running {
    /// Starts the program that `command` runs, with the configuration that `config` writes for its address and directory.
    pub(crate) fn launch(
        mut command: Command,
        config: impl FnOnce(Ipv4Addr, &TempDir) -> String,
        stderr: impl FnOnce(File) -> Stdio,
    ) -> Self {
        let (address, directory) = (loopback::own_address(), tempfile::tempdir().unwrap());
        let log = stderr(File::create(directory.path().join("log")).unwrap());
        let file = directory.path().join("proxy.toml");
        fs::write(&file, config(address, &directory)).unwrap();
        command.args(["run", "--config"]).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self { child: command.spawn().unwrap(), address, directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn config_file(&self) -> String {
        self.path("proxy.toml").to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self) -> SocketAddr {
        (self.address, 5433).into()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// The body of the admin address's answer, if there is one.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((self.address, 9433)).ok()?;
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// A sample of `/metrics`, by the beginning of its name and its labels.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.get("/metrics")?;
        let line = metrics.lines().find(|line| line.starts_with(&format!("pg_leader_proxy_{name}")))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    pub(crate) fn wait(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < SOON, "never: {what}; {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
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
            assert!(began.elapsed() < SOON, "it does not end; {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
