//! Real etcd servers, each with its own loopback address and directory.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::loopback::own_address;

/// An etcd server. It is killed when this is dropped or the thread of its test ends.
pub(crate) struct Etcd {
    pub(crate) address: Ipv4Addr,
    directory: TempDir,
    arguments: Vec<String>,
    scheme: &'static str,
    child: Option<Child>,
}

impl Etcd {
    /// A single server, with further arguments.
    pub(crate) fn alone(more: &[&str]) -> Self {
        let mut etcd = Self::single(more);
        etcd.start();
        etcd
    }

    /// A single server with TLS, not started. `arguments` makes its certificates and names them.
    pub(crate) fn with_tls(arguments: impl FnOnce(Ipv4Addr) -> Vec<String>) -> Self {
        let mut etcd = Self::single(&[]);
        etcd.scheme = "https";
        etcd.arguments.extend(arguments(etcd.address));
        etcd
    }

    fn single(more: &[&str]) -> Self {
        let address = own_address();
        Self::new("alone", address, &format!("alone=http://{address}:2380"), more)
    }

    /// A cluster of three servers.
    pub(crate) fn cluster() -> [Self; 3] {
        let addresses = [own_address(), own_address(), own_address()];
        let peers = addresses.map(|address| format!("{}=http://{address}:2380", name(address))).join(",");
        let mut cluster = addresses.map(|address| Self::new(&name(address), address, &peers, &[]));
        for etcd in &mut cluster {
            etcd.start();
        }
        cluster
    }

    fn new(name: &str, address: Ipv4Addr, peers: &str, more: &[&str]) -> Self {
        let mut arguments = vec!["--name".to_owned(), name.to_owned()];
        arguments.extend(["--initial-cluster".to_owned(), peers.to_owned()]);
        arguments.extend(["--initial-advertise-peer-urls".to_owned(), format!("http://{address}:2380")]);
        arguments.extend(["--listen-peer-urls".to_owned(), format!("http://{address}:2380")]);
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        Self { address, directory: tempfile::tempdir().unwrap(), arguments, scheme: "http", child: None }
    }

    pub(crate) fn start(&mut self) {
        self.start_at(self.address);
    }

    /// Starts it with this address for clients.
    pub(crate) fn start_at(&mut self, address: Ipv4Addr) {
        let mut urls = format!("{}://{address}:2379", self.scheme);
        if self.scheme == "https" {
            urls.push_str(&format!(",{}", self.plain_url()));
        }
        let log = File::options().append(true).create(true).open(self.directory.path().join("log")).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "etcd"])
            .args(["--listen-client-urls", &urls, "--advertise-client-urls", &urls])
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv (util-linux) and etcd must be on the PATH");
        self.child = Some(child);
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}:2379", self.scheme, self.address)
    }

    /// The URL without TLS, over which a test acts for Patroni.
    fn plain_url(&self) -> String {
        let port = if self.scheme == "https" { 2378 } else { 2379 };
        format!("http://{}:{port}", self.address)
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Kills it and deletes its data.
    pub(crate) fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.directory.path().join("data")).unwrap();
    }

    /// Stops the process (SIGSTOP): the kernel still accepts connections, but it never answers.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until the server answers, and returns a client.
    pub(crate) async fn client(&mut self) -> Client {
        let url = self.plain_url();
        self.client_at(&url, ConnectOptions::new()).await
    }

    pub(crate) async fn client_at(&mut self, url: &str, options: ConnectOptions) -> Client {
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            let options = options.clone().with_timeout(Duration::from_secs(2));
            if let Ok(mut client) = Client::connect([url], Some(options)).await
                && client.get("ready?", None).await.is_ok()
            {
                return client;
            }
            let running = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none());
            if !running || Instant::now() > give_up {
                let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                panic!("etcd at {url} does not answer; its log:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// etcd's gRPC proxy in front of a server. It is killed when this is dropped or the thread of its test ends.
pub(crate) struct GrpcProxy {
    address: Ipv4Addr,
    child: Child,
}

impl GrpcProxy {
    pub(crate) fn start(etcd: &Etcd) -> Self {
        let address = own_address();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "etcd", "grpc-proxy", "start"])
            .arg(format!("--endpoints={}", etcd.url()))
            .arg(format!("--listen-addr={address}:2379"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { address, child }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}:2379", self.address)
    }
}

impl Drop for GrpcProxy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn name(address: Ipv4Addr) -> String {
    format!("etcd-{address}")
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
