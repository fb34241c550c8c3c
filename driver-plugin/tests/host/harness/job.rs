//! Tasks as Nomad describes them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nomad_plugin_proto::driver::{
    PortMapping, RecoverTaskRequest, Resources, SignalTaskRequest, StartTaskRequest, TaskConfig, TaskHandle,
    WaitTaskRequest, WaitTaskResponse,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Status;

use super::Plugin;

/// How long a step may take that is not the subject of the test.
const PATIENCE: Duration = Duration::from_secs(20);

/// An allocation with one task, the proxy, in its own directory. Dropping it removes everything.
pub(crate) struct Job {
    /// Contains the plugin's state directory, too.
    directory: TempDir,
    address: SocketAddr,
    config: TaskConfig,
    started: Vec<TaskHandle>,
}

impl Job {
    /// A task with a route on a free port and a member that does not answer. That is enough to start, stop and
    /// measure it.
    pub(crate) fn new() -> Self {
        let address = free_address();
        let config = json!({
            "cluster": { "scope": null, "members": ["127.0.0.1:1"] },
            "probe": { "user": "monitor" },
            "write": { "port": "pg", "listen": null, "hold_timeout": "5s" },
            "read": null,
            "admin": { "listen": "off" },
        });
        let mut job = Self {
            directory: tempfile::tempdir().unwrap(),
            address,
            config: TaskConfig::default(),
            started: Vec::new(),
        };
        job.config = job.described(&config);
        job
    }

    fn described(&self, config: &Value) -> TaskConfig {
        let alloc_dir = self.directory.path().join("alloc");
        std::fs::create_dir_all(alloc_dir.join("proxy/local")).unwrap();
        for log in ["stdout", "stderr"] {
            std::fs::write(alloc_dir.join(log), "").unwrap();
        }
        let port = PortMapping {
            label: "pg".into(),
            value: self.address.port().into(),
            to: 0,
            host_ip: self.address.ip().to_string(),
        };
        TaskConfig {
            id: format!("{}/proxy/{:08x}", alloc_id(), next()),
            name: "proxy".into(),
            alloc_id: alloc_id(),
            alloc_dir: alloc_dir.display().to_string(),
            stdout_path: alloc_dir.join("stdout").display().to_string(),
            stderr_path: alloc_dir.join("stderr").display().to_string(),
            env: HashMap::from([
                ("NOMAD_TASK_NAME".into(), "proxy".into()),
                ("SECRET".into(), "hunter2".into()),
            ]),
            resources: Some(Resources { ports: vec![port], ..Resources::default() }),
            msgpack_driver_config: rmp_serde::to_vec(config).unwrap(),
            ..TaskConfig::default()
        }
    }

    /// The plugin's state directory.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// The allocation directory.
    pub(crate) fn alloc_dir(&self) -> PathBuf {
        PathBuf::from(&self.config.alloc_dir)
    }

    /// The address for clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The task's description.
    pub(crate) fn task(&mut self) -> &mut TaskConfig {
        &mut self.config
    }

    /// The task's id.
    pub(crate) fn id(&self) -> String {
        self.config.id.clone()
    }

    /// Replaces the `config` block.
    pub(crate) fn configure(&mut self, config: &Value) {
        self.config.msgpack_driver_config = rmp_serde::to_vec(config).unwrap();
    }

    /// Gives the task a new id, as Nomad does for each run.
    pub(crate) fn next_run(&mut self) {
        self.config.id = format!("{}/proxy/{:08x}", alloc_id(), next());
    }

    /// Lets other users into the directory.
    pub(crate) fn let_everybody_in(&self) {
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.directory.path(), open).unwrap();
    }

    /// Kills the task of this handle at the end of the test.
    pub(crate) fn own(&mut self, handle: TaskHandle) {
        self.started.push(handle);
    }

    /// `StartTask`.
    pub(crate) async fn start(&mut self, plugin: &Plugin) -> Result<TaskHandle, Status> {
        let request = StartTaskRequest { task: Some(self.config.clone()) };
        let answer = plugin.driver().start_task(request).await?.into_inner();
        let handle = answer.handle.expect("Nomad recovers no task without a handle");
        self.own(handle.clone());
        Ok(handle)
    }

    /// The pid of the proxy that was started last.
    pub(crate) fn proxy(&self) -> u32 {
        process(self.started.last().unwrap(), "proxy")
    }

    /// The pid of its supervisor.
    pub(crate) fn supervisor(&self) -> u32 {
        process(self.started.last().unwrap(), "supervisor")
    }

    /// The proxy's log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.config.stderr_path).unwrap_or_default()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        for handle in &self.started {
            for role in ["supervisor", "proxy"] {
                let pid = process(handle, role);
                if command_line(pid).contains("nomad-driver-pg-leader-proxy") {
                    // It may exit at this moment.
                    let _ = kill_process(pid_of(pid), Signal::KILL);
                }
            }
        }
    }
}

/// `RecoverTask` as Nomad's client calls it: the id of the request is empty.
pub(crate) async fn recover(plugin: &Plugin, handle: TaskHandle) {
    let request = RecoverTaskRequest { task_id: String::new(), handle: Some(handle) };
    plugin.driver().recover_task(request).await.unwrap();
}

/// `SignalTask`. The task ends by a signal that ends processes.
pub(crate) async fn signal(plugin: &Plugin, job: &Job, signal: &str) {
    let request = SignalTaskRequest { task_id: job.id(), signal: signal.to_owned() };
    plugin.driver().signal_task(request).await.unwrap();
}

/// `WaitTask`.
pub(crate) async fn wait(plugin: &Plugin, task_id: &str) -> WaitTaskResponse {
    let request = WaitTaskRequest { task_id: task_id.to_owned() };
    let waiting = async { plugin.driver().wait_task(request).await };
    soon(waiting).await.unwrap().into_inner()
}

/// Whether there is such a process that is not a zombie.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    test_kill_process(pid_of(pid)).is_ok() && !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z")
}

/// Awaits `work`, which must not take long.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it takes too long")
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether connections to the address are accepted.
pub(crate) fn connects(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// Sends a signal to a process that is not a child.
pub(crate) fn send(pid: u32, signal: Signal) {
    kill_process(pid_of(pid), signal).unwrap();
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().unwrap()).unwrap()
}

/// A field of a process's status, such as `PPid`.
pub(crate) fn status_field(pid: u32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

/// The open descriptors of a process and what they refer to.
pub(crate) fn descriptors(pid: u32) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let entries = entries.flatten().filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), target))
    });
    entries.collect()
}

fn command_line(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

fn process(handle: &TaskHandle, role: &str) -> u32 {
    let state: Value = serde_json::from_slice(&handle.driver_state).unwrap();
    u32::try_from(state["record"][role]["pid"].as_u64().unwrap()).unwrap()
}

fn alloc_id() -> String {
    "11111111-2222-3333-4444-555555555555".to_owned()
}

fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An address that no other test on this machine uses: each test has its own IP address.
fn free_address() -> SocketAddr {
    let [_, high, low] = [16, 8, 0].map(|shift| (std::process::id() >> shift).to_le_bytes()[0]);
    let [number, _, _, _] = next().to_le_bytes();
    let ip = Ipv4Addr::new(127, 128 | (high ^ low), number, 1 + low / 2);
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// Whether a directory is empty or does not exist.
pub(crate) fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}
