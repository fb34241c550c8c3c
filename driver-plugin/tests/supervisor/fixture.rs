//! A state directory for supervisors, specifications of tasks, and clients of the proxies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nomad_driver_pg_leader_proxy::process_id::ProcessId;
use nomad_driver_pg_leader_proxy::resources::Cgroups;
use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::supervisor::{
    JobName, LaunchSpec, Launcher, Recovered, StartError, SupervisorClient, TaskExit, TaskName, TaskRecord,
};
use nomad_driver_pg_leader_proxy::user::Account;
use pg_leader_proxy::config::{Given, Raw};
use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Beyond anything that a healthy step takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// The pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);
/// A StartupMessage of protocol 3.0 for the user `anna`.
const STARTUP: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0anna\0\0";

/// A state directory, and an address to listen on. What still runs at the end is killed.
pub(crate) struct Fixture {
    directory: TempDir,
    pub(crate) launcher: Launcher,
    pub(crate) address: SocketAddr,
    started: Mutex<Vec<TaskRecord>>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The user of the tasks looks for their files in it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let launcher = Launcher {
            executable: PathBuf::from(env!("CARGO_BIN_EXE_nomad-driver-pg-leader-proxy")),
            state_dir: directory.path().join("state"),
        };
        Self { directory, launcher, address: own_address(), started: Mutex::default() }
    }

    /// A path in the fixture's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A run of the task: a proxy of a cluster whose only member does not answer.
    pub(crate) fn launch(&self, run: &str) -> LaunchSpec {
        let settings = [
            ("cluster.members", "127.0.0.1:1"),
            ("probe.user", "monitor"),
            ("write.listen", &self.address.to_string()),
            ("write.hold_timeout", "300ms"),
            ("admin.listen", "off"),
            ("session.workers", "2"),
        ];
        LaunchSpec {
            task: TaskName {
                id: format!("0a1b{run}/proxy/{run}"),
                alloc_id: format!("0a1b{run}"),
                name: "proxy".to_owned(),
            },
            job: JobName { namespace: "default".to_owned(), id: "proxy".to_owned() },
            settings: settings.map(|(path, value)| given(path, value)).to_vec(),
            environment: BTreeMap::from([("PGLP_PROBE_PASSWORD".to_owned(), "a secret".to_owned())]),
            alloc_dir: self.directory.path().to_owned(),
            directory: self.directory.path().to_owned(),
            stdout: PathBuf::from("/dev/null"),
            stderr: self.log(),
            account: Some(Account::find("nobody").unwrap()),
            user: None,
            cgroups: Cgroups::default(),
            oom_score_adj: 0,
            keep_listening: Duration::from_secs(20),
            earlier_state_dirs: Vec::new(),
        }
    }

    pub(crate) async fn try_start(&self, launch: LaunchSpec) -> Result<SupervisorClient, StartError> {
        let supervisor = self.launcher.start(launch).await?;
        self.started.lock().unwrap().push(supervisor.record().clone());
        Ok(supervisor)
    }

    pub(crate) async fn start(&self, launch: LaunchSpec) -> SupervisorClient {
        match self.try_start(launch).await {
            Ok(supervisor) => supervisor,
            Err(error) => panic!("{error:?}; the log: {}", self.logged()),
        }
    }

    /// The log file of the proxies.
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

    /// The directories of supervisors that exist.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.launcher.state_dir).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// How many accepted connections are open.
    pub(crate) fn sessions(&self) -> usize {
        // A connection that nobody has accepted yet has no inode.
        let accepted = |entry: &TcpNetEntry| entry.state == TcpState::Established && entry.inode != 0;
        let table = Process::myself().unwrap().tcp().unwrap();
        table.iter().filter(|entry| entry.local_address == self.address && accepted(entry)).count()
    }

    /// Connects to the proxy, or into the backlog of a socket that it left.
    pub(crate) async fn connect(&self) -> std::io::Result<Client> {
        Client::connect(self.address).await
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for record in self.started.lock().unwrap().iter() {
            let _ = record.supervisor.signal(Signal::KILL);
            let _ = record.proxy.signal(Signal::KILL);
        }
    }
}

/// A client that has sent its StartupMessage.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(STARTUP).await?;
        Ok(Self(stream))
    }

    /// The first byte of the answer: `E` for an error; `None` when the connection ends without one.
    pub(crate) async fn answer(mut self) -> Option<char> {
        let answer = tokio::time::timeout(SOON, self.0.read_u8()).await.expect("the client gets no answer");
        answer.ok().map(char::from)
    }
}

/// A setting of the job, as text.
pub(crate) fn given(path: &str, value: &str) -> Given {
    Given { path: path.to_owned(), raw: Raw::Text(value.to_owned()) }
}

/// Sets or replaces a setting.
pub(crate) fn set(launch: &mut LaunchSpec, path: &str, value: &str) {
    launch.settings.retain(|known| known.path != path);
    launch.settings.push(given(path, value));
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "never happened: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Awaits `work`, which must not take long.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("it takes too long")
}

/// The exit of a task that is recovered after its end.
pub(crate) async fn exit_found(record: &TaskRecord) -> TaskExit {
    match SupervisorClient::recover(record).await.unwrap() {
        Recovered::Exited(exit) => exit,
        Recovered::Running(_) => panic!("it still runs"),
    }
}

/// A value of `/proc/PID/status`.
pub(crate) fn status(process: &ProcessId, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The open descriptors of a process and what they refer to.
pub(crate) fn descriptors(process: &ProcessId) -> BTreeMap<u32, String> {
    let entries = fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap();
    let open = entries.filter_map(|entry| {
        let entry = entry.unwrap();
        // It may be closed by now.
        let target = fs::read_link(entry.path()).ok()?;
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        Some((number, target.to_string_lossy().into_owned()))
    });
    open.collect()
}

/// The inodes of the sockets by which a process listens on an address.
pub(crate) fn listening(process: &ProcessId, address: SocketAddr) -> BTreeSet<u64> {
    let process = Process::new(process.pid.try_into().unwrap()).unwrap();
    let table = process.tcp().unwrap().into_iter();
    let listen = |entry: &TcpNetEntry| entry.local_address == address && entry.state == TcpState::Listen;
    let listeners: BTreeSet<u64> = table.filter(listen).map(|entry| entry.inode).collect();
    let socket = |target| if let FDTarget::Socket(inode) = target { Some(inode) } else { None };
    let open = process.fd().unwrap().filter_map(|open| socket(open.ok()?.target));
    open.filter(|inode| listeners.contains(inode)).collect()
}

/// Whether a process has exited and was reaped.
pub(crate) fn is_gone(process: &ProcessId) -> bool {
    ProcessId::of_child(process.pid).map_or(true, |new| new != *process)
}

/// An address that no other test uses, in this or another process.
pub(crate) fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = std::process::id();
    let [low, high, ..] = process.to_le_bytes();
    let port = 20_000 + NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from((Ipv4Addr::new(127, 1, high, low), port))
}
