//! A place for supervisors, the launches that start there, and clients of the relays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::identity::Identity;
use nomad_driver_pg_leader_proxy::resources::Cgroups;
use nomad_driver_pg_leader_proxy::supervisor::{
    Base, Exit, Found, Launch, Record, StartError, Supervisor, TaskName,
};
use pg_leader_proxy::config::{Given, Raw};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Beyond anything that a healthy step takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// How often something that takes a moment is looked at again.
const LOOK: Duration = Duration::from_millis(10);
/// A start-up packet of protocol 3.0 for the user `anna`.
const STARTUP: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0anna\0\0";

/// A state directory, and an address to listen on. Whatever runs at the end is killed.
pub(crate) struct Scene {
    directory: TempDir,
    pub(crate) base: Base,
    pub(crate) address: SocketAddr,
    started: Mutex<Vec<Record>>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let base = Base {
            executable: PathBuf::from(env!("CARGO_BIN_EXE_nomad-driver-pg-leader-proxy")),
            state_dir: directory.path().join("state"),
        };
        Self { directory, base, address: own_address(), started: Mutex::default() }
    }

    /// A path below the scene's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A run of the task: a proxy of a cluster whose only member does not answer.
    pub(crate) fn launch(&self, run: &str) -> Launch {
        let settings = [
            ("cluster.members", "127.0.0.1:1"),
            ("probe.user", "monitor"),
            ("write.listen", &self.address.to_string()),
            ("write.hold_timeout", "300ms"),
            ("admin.listen", "off"),
            ("session.workers", "2"),
        ];
        Launch {
            task: TaskName {
                id: format!("0a1b/proxy/{run}"),
                alloc_id: "0a1b".to_owned(),
                name: "proxy".to_owned(),
            },
            settings: settings.map(|(path, value)| given(path, value)).to_vec(),
            environment: BTreeMap::from([("PGLP_PROBE_PASSWORD".to_owned(), "a secret".to_owned())]),
            directory: self.directory.path().to_owned(),
            stdout: PathBuf::from("/dev/null"),
            stderr: self.log(),
            user: None,
            cgroups: Cgroups::default(),
            oom_score_adj: 0,
            keep_listening: Duration::from_secs(20),
        }
    }

    pub(crate) async fn try_start(&self, launch: Launch) -> Result<Supervisor, StartError> {
        let supervisor = Supervisor::start(&self.base, launch).await?;
        self.started.lock().unwrap().push(supervisor.record().clone());
        Ok(supervisor)
    }

    pub(crate) async fn start(&self, launch: Launch) -> Supervisor {
        match self.try_start(launch).await {
            Ok(supervisor) => supervisor,
            Err(error) => panic!("{error:?}; the log: {}", self.logged()),
        }
    }

    /// The file that the relays of this scene log to.
    fn log(&self) -> PathBuf {
        let log = self.path("log");
        if !log.exists() {
            fs::write(&log, "").unwrap();
        }
        log
    }

    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The directories of supervisors that are there.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.base.state_dir).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// How many clients have been accepted and are still there.
    pub(crate) fn sessions(&self) -> usize {
        let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
        let local = as_in_proc(self.address);
        let accepted = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // 01 is TCP_ESTABLISHED; what nobody has accepted yet has no inode.
            fields[1] == local && fields[3] == "01" && fields[9] != "0"
        };
        table.lines().filter(accepted).count()
    }

    /// Connects to the relay, or to the backlog that it left.
    pub(crate) async fn connect(&self) -> std::io::Result<Client> {
        Client::connect(self.address).await
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for record in self.started.lock().unwrap().iter() {
            let _ = record.supervisor.signal(Signal::KILL);
            let _ = record.relay.signal(Signal::KILL);
        }
    }
}

/// A client that has sent its start-up packet.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(STARTUP).await?;
        Ok(Self(stream))
    }

    /// The first byte of the answer: `E` for a refusal; `None` when there is none before the end of the connection.
    pub(crate) async fn answer(mut self) -> Option<char> {
        let answer = tokio::time::timeout(SOON, self.0.read_u8()).await.expect("the client is left waiting");
        answer.ok().map(char::from)
    }
}

/// A setting of the job, as text.
pub(crate) fn given(path: &str, value: &str) -> Given {
    Given { path: path.to_owned(), raw: Raw::Text(value.to_owned()) }
}

/// Puts another value in the place of a setting, or adds it.
pub(crate) fn set(launch: &mut Launch, path: &str, value: &str) {
    launch.settings.retain(|known| known.path != path);
    launch.settings.push(given(path, value));
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < SOON, "never happened: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// What `work` gives, which must not take long.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("it takes too long")
}

/// The exit of a task that is found to have ended.
pub(crate) async fn exit_found(record: &Record) -> Exit {
    match Supervisor::reconnect(record).await.unwrap() {
        Found::Ended(exit) => exit,
        Found::Running(_) => panic!("it still runs"),
    }
}

/// A line of `/proc/PID/status`, without its name.
pub(crate) fn status(process: &Identity, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What each descriptor of a process leads to, by number.
pub(crate) fn descriptors(process: &Identity) -> BTreeMap<u32, String> {
    let entries = fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap();
    let open = entries.filter_map(|entry| {
        let entry = entry.unwrap();
        // One that was closed meanwhile.
        let target = fs::read_link(entry.path()).ok()?;
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        Some((number, target.to_string_lossy().into_owned()))
    });
    open.collect()
}

/// An address as the kernel's tables have it.
fn as_in_proc(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("tests listen on IPv4") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

/// The inodes of the sockets by which a process listens on an address.
pub(crate) fn listening(process: &Identity, address: SocketAddr) -> BTreeSet<String> {
    let local = as_in_proc(address);
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", process.pid)).unwrap();
    let listeners = table.lines().filter_map(|line| {
        // sl, local_address, rem_address, st, …, inode (proc_pid_net(5)); 0A is TCP_LISTEN.
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields[1] == local && fields[3] == "0A").then(|| format!("socket:[{}]", fields[9]))
    });
    let listeners: BTreeSet<String> = listeners.collect();
    descriptors(process).into_values().filter(|target| listeners.contains(target)).collect()
}

/// Whether a process has left nothing, not even something to be reaped.
pub(crate) fn is_gone(process: &Identity) -> bool {
    !Path::new(&format!("/proc/{}", process.pid)).exists()
        || Identity::of(process.pid).is_ok_and(|new| new != *process)
}

/// An address that no other test uses, in this process or in another one that runs at the same time.
pub(crate) fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = std::process::id();
    let [low, high, ..] = process.to_le_bytes();
    let port = 20_000 + NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from((Ipv4Addr::new(127, 1, high, low), port))
}
