//! A proxy before two fake servers, its clients, and the commands of an operator.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::loopback;
use crate::primary::{AUTH_OK, Primary, READY, SSL_REQUEST, message};
use crate::running::{PROGRAM, Running, SOON, STARTUP};

/// How long to wait for something that must not happen.
const A_WHILE: Duration = Duration::from_millis(400);

/// A proxy, its leader and its replica.
pub(crate) struct Scene {
    running: Running,
    pub(crate) leader: Primary,
    pub(crate) replica: Primary,
}

/// The exit code of a command, and all that it printed.
pub(crate) type Told = (Option<i32>, String);

impl Scene {
    /// Starts the proxy with these further lines of configuration, and waits until it serves both routes.
    pub(crate) async fn start(more: &str) -> Self {
        let (leader, replica) = (Primary::start().await, Primary::start().await);
        replica.set_in_recovery(true);
        let members = [leader.addr, replica.addr];
        let config = |address, directory: &TempDir| {
            // Another user is to reach the socket, too.
            fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
            text(address, &directory.path().join("control.sock"), members, more)
        };
        let running = Running::launch(Command::new(PROGRAM), config, |log| log.into());
        let scene = Self { running, leader, replica };
        scene.wait("both routes are served", |scene| {
            scene.metric("read_servers") == Some(1.0)
                && scene.get("/leader").is_some_and(|told| told.contains("epoch"))
        });
        scene
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// Writes the configuration anew, without a signal.
    pub(crate) fn write_config(&self, more: &str) {
        let text = text(self.address, &self.socket(), [self.leader.addr, self.replica.addr], more);
        fs::write(self.config_file(), text).unwrap();
    }

    pub(crate) fn read(&self) -> SocketAddr {
        (self.address, 5434).into()
    }

    /// Runs a command that finds the proxy by its configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Told {
        told(Command::new(PROGRAM).args(arguments).args(["--config", &self.config_file()]))
    }

    /// Runs another proxy of a cluster that is called `scope`, with this one's control socket, until it ends.
    pub(crate) fn run_other(&self, scope: &str) -> Told {
        let file = self.path("other.toml");
        let members = [self.leader.addr, self.replica.addr];
        let more = format!("cluster.scope = \"{scope}\"\nsession.so_reuseport = true");
        fs::write(&file, text(loopback::own_address(), &self.socket(), members, &more)).unwrap();
        told(Command::new(PROGRAM).args(["run", "--config"]).arg(file))
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let (code, text) = self.command(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
        text
    }

    /// The sessions that `sessions --json` lists, with these further arguments.
    pub(crate) fn sessions(&self, more: &[&str]) -> Vec<serde_json::Value> {
        let text = self.done(&[&["sessions", "--json"], more].concat());
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        answer["sessions"].as_array().unwrap().clone()
    }

    pub(crate) fn wait(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        self.running.wait(what, |_| is_so(self));
    }
}

impl Deref for Scene {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Scene {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

fn text(address: Ipv4Addr, socket: &Path, members: [SocketAddr; 2], more: &str) -> String {
    let [leader, replica] = members;
    format!(
        "cluster.members = [\"{leader}\", \"{replica}\"]\nprobe.user = \"monitor\"\nprobe.sslmode = \"disable\"\n\
         probe.interval = \"100ms\"\nwrite.listen = [\"{address}:5433\"]\nread.listen = [\"{address}:5434\"]\n\
         admin.listen = \"{address}:9433\"\ncontrol.socket = \"{}\"\nsession.workers = 2\n{more}\n",
        socket.display()
    )
}

/// Runs a command to its end.
pub(crate) fn told(command: &mut Command) -> Told {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

/// A client of the proxy.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    /// One that has sent its first packet.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(STARTUP).unwrap();
        Self(stream)
    }

    /// One that asks for TLS, which the server refuses, and then sends a cancel request.
    pub(crate) fn cancel_after_tls_is_refused(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(SSL_REQUEST).unwrap();
        let mut client = Self(stream);
        client.expect(b"N");
        client.0.write_all(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02").unwrap();
        client
    }

    /// One with an open session.
    pub(crate) fn open(addr: SocketAddr) -> Self {
        let mut client = Self::connect(addr);
        client.logs_in();
        client
    }

    pub(crate) fn logs_in(&mut self) {
        self.expect(&[AUTH_OK, READY].concat());
    }

    pub(crate) fn asks(&mut self) {
        self.0.write_all(&message(b'Q', b"select 1\0")).unwrap();
        self.expect(READY);
    }

    fn expect(&mut self, bytes: &[u8]) {
        let mut received = vec![0; bytes.len()];
        self.0.read_exact(&mut received).unwrap();
        assert_eq!(received, bytes, "{}", String::from_utf8_lossy(&received));
    }

    /// Whether it receives nothing for a while, not even the end of its connection.
    pub(crate) fn waits(&self) -> bool {
        self.0.set_read_timeout(Some(A_WHILE)).unwrap();
        let waits = self.0.peek(&mut [0]).is_err();
        self.0.set_read_timeout(Some(SOON)).unwrap();
        waits
    }

    /// All that it receives until its connection ends.
    pub(crate) fn last_words(mut self) -> String {
        let mut words = Vec::new();
        // It may be reset at its end.
        let _ = self.0.read_to_end(&mut words);
        String::from_utf8_lossy(&words).into_owned()
    }
}
