//! How the plugin starts a supervisor and its task.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::SupervisorClient;
use super::evict::{evict, kill};
use crate::channel::Channel;
use crate::supervisor::control_socket::{connect, describe, is_gone, unexpected};
use crate::supervisor::deadlines;
use crate::supervisor::launch::{LaunchSpec, StartError, TaskName};
use crate::supervisor::protocol::{Reply, Request};
use crate::supervisor::record::{Holder, TaskRecord, remove_directory};
use crate::supervisor::state_dir;
use crate::{about, roles};

/// The pause between two attempts to connect to a supervisor that was just started.
const RETRY: Duration = Duration::from_millis(2);
/// How many directories of one task there may be: one of a supervisor that runs it, and others that still keep sockets.
const DIRECTORIES_MAX: u32 = 1000;

/// Starts supervisors.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The executable, which knows the roles of supervisor and proxy.
    pub executable: PathBuf,
    /// Holds a directory for each supervisor. It should not outlive a boot.
    pub state_dir: PathBuf,
}

impl Launcher {
    /// Starts supervisors of this process's own executable, even after its file was replaced.
    pub fn new(state_dir: PathBuf) -> Self {
        Self { executable: PathBuf::from(roles::THIS_EXECUTABLE), state_dir }
    }

    /// Starts a task, and returns once it listens.
    ///
    /// If an earlier plugin started the same task and died before it could report it, this returns that one. Whatever
    /// else runs of the same task of the same allocation is ended. When this future is dropped, the supervisor notices and leaves
    /// nothing behind.
    ///
    /// # Errors
    /// Why the task did not start. It takes at most 40 seconds, and 20 unless an earlier run has to be ended.
    pub async fn start(&self, launch: LaunchSpec) -> Result<SupervisorClient, StartError> {
        state_dir::prepare(&self.state_dir)
            .map_err(|error| StartError::Transient(format!("cannot use the state directory: {error}")))?;
        let name = directory_name(&launch.task.id);
        let earlier =
            timeout(deadlines::CLEAN_UP, self.clean_up_earlier(&name, &launch)).await.map_err(|_| {
                let limit = deadlines::CLEAN_UP;
                StartError::Transient(format!(
                    "an earlier run of the task could not be ended within {limit:?}"
                ))
            })?;
        if let Some(record) = earlier {
            return Ok(SupervisorClient::of(record));
        }
        let started = timeout(deadlines::START, self.start_new(&name, launch)).await.unwrap_or_else(|_| {
            Err(StartError::Transient(format!("the supervisor was not ready within {:?}", deadlines::START)))
        });
        started.map(SupervisorClient::of)
    }

    /// Finds a running task by its id alone. A supervisor of it that does not reply is killed.
    pub async fn find(&self, task_id: &str) -> Option<TaskRecord> {
        let name = directory_name(task_id);
        for directory in self.directories(&[]).into_iter().filter(|path| is_named(path, &name)) {
            match describe(&directory).await {
                Ok(found) if found.launch.as_ref().is_some_and(|launch| launch.task.id == task_id) => {
                    return found.record;
                }
                Err(error) if !is_gone(&error) => drop(kill(&directory, None).await),
                _ => {}
            }
        }
        None
    }

    /// Ends what runs of the same task of the same allocation: Nomad runs one at a time, and has given the other one up.
    /// A task that runs with the same specification is returned instead.
    async fn clean_up_earlier(&self, name: &str, launch: &LaunchSpec) -> Option<TaskRecord> {
        let directories = self.directories(&launch.earlier_state_dirs);
        let found =
            join_all(directories.into_iter().map(|directory| clean_up(directory, name, launch))).await;
        found.into_iter().flatten().next()
    }

    /// The directories of all supervisors.
    fn directories(&self, earlier: &[PathBuf]) -> Vec<PathBuf> {
        let parents = [&self.state_dir].into_iter().chain(earlier);
        let entries = parents.filter_map(|parent| parent.read_dir().ok()).flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    async fn start_new(&self, name: &str, launch: LaunchSpec) -> Result<TaskRecord, StartError> {
        let directory = create_directory(&self.state_dir, name).map_err(|error| {
            StartError::Transient(format!("cannot create the supervisor's directory: {error}"))
        })?;
        let mut channel = match spawn(&self.executable, &directory).await {
            Ok(channel) => channel,
            Err(error) => {
                // There is no supervisor that would remove it.
                let _ = remove_directory(&directory);
                return Err(StartError::Transient(format!("cannot start the supervisor: {error}")));
            }
        };
        channel.send(&Request::Start(Box::new(launch))).await.map_err(|error| {
            if error.kind() == ErrorKind::InvalidInput {
                return StartError::Fatal(format!(
                    "the task's environment and settings are too large: {error}"
                ));
            }
            lost(&error)
        })?;
        let reply = channel.expect(deadlines::START).await.map_err(|error| lost(&error))?;
        if let Reply::StartFailed(error) = reply {
            return Err(error);
        }
        let Reply::Started(record) = reply else { return Err(lost(&unexpected(&reply))) };
        channel.send(&Request::Ack).await.map_err(|error| lost(&error))?;
        Ok(record)
    }
}

async fn clean_up(directory: PathBuf, name: &str, launch: &LaunchSpec) -> Option<TaskRecord> {
    let is_same = |task: &TaskName| task.alloc_id == launch.task.alloc_id && task.name == launch.task.name;
    let held_by_same = || Holder::read(&directory).ok().flatten().is_some_and(|holder| is_same(&holder.task));
    match describe(&directory).await {
        Ok(found) => {
            let known = found.launch.filter(|known| is_same(&known.task))?;
            match (found.record, found.exit) {
                (Some(record), None) if is_same_start(&known, launch) => return Some(record),
                // It keeps its sockets for this start.
                (_, Some(_)) if known.task.id != launch.task.id => {}
                _ => end(&directory).await,
            }
        }
        Err(error) if is_gone(&error) && is_named(&directory, name) => {
            // A directory that cannot be removed does no harm: each attempt uses a new one.
            let _ = remove_directory(&directory);
        }
        // Its proxy process may still be there.
        Err(_) if held_by_same() => {
            if let Err(error) = kill(&directory, None).await {
                tracing::error!(directory = %directory.display(), %error, "an earlier run of the task is left");
            }
        }
        Err(_) => {}
    }
    None
}

async fn end(directory: &Path) {
    if let Err(error) = evict(directory).await {
        tracing::error!(directory = %directory.display(), %error, "an earlier run of the task is left");
    }
}

/// Whether a task was started as it is to be started now. Where to look for neighbours does not matter.
fn is_same_start(known: &LaunchSpec, launch: &LaunchSpec) -> bool {
    let earlier_state_dirs = launch.earlier_state_dirs.clone();
    LaunchSpec { earlier_state_dirs, ..known.clone() } == *launch
}

/// Whether a directory is one of the attempts at the task with this name.
fn is_named(directory: &Path, name: &str) -> bool {
    directory.file_stem().is_some_and(|stem| stem == name) && directory.extension().is_some()
}

fn lost(error: &io::Error) -> StartError {
    StartError::Transient(format!("the connection to the supervisor was lost: {error}"))
}

/// Starts a supervisor and waits until it listens. It inherits neither environment nor standard streams. Nobody waits
/// for this child; the runtime reaps it.
async fn spawn(executable: &Path, directory: &Path) -> io::Result<Channel> {
    let mut child = Command::new(executable)
        .arg0(about::PROGRAM)
        .arg(roles::SUPERVISOR)
        .arg(directory)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    loop {
        match connect(directory).await {
            Ok(channel) => return Ok(channel),
            Err(error) if is_gone(&error) => check_running(&mut child)?,
            Err(error) => return Err(error),
        }
        sleep(RETRY).await;
    }
}

fn check_running(child: &mut Child) -> io::Result<()> {
    match child.try_wait()? {
        None => Ok(()),
        Some(status) => Err(io::Error::other(format!("it exited at once: {status}"))),
    }
}

/// Creates a directory that no other attempt at this task uses.
fn create_directory(state_dir: &Path, name: &str) -> io::Result<PathBuf> {
    let state_dir = fs::canonicalize(state_dir)?;
    for attempt in 0..DIRECTORIES_MAX {
        let directory = state_dir.join(format!("{name}.{attempt}"));
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => return created.map(|()| directory),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// The 64-bit FNV-1a hash of a task's id, which contains slashes and may be long. The hash must not change between
/// versions of the driver.
fn directory_name(task_id: &str) -> String {
    let hash = task_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_is_named_by_the_fnv_1a_hash() {
        // Test vectors of the algorithm's authors.
        assert_eq!(directory_name(""), "cbf29ce484222325");
        assert_eq!(directory_name("a"), "af63dc4c8601ec8c");
        assert_eq!(directory_name("foobar"), "85944171f73967e8");
    }

    #[test]
    fn each_attempt_has_its_own_private_directory() {
        let state_dir = tempfile::tempdir().unwrap();
        let first = create_directory(state_dir.path(), "name").unwrap();
        let second = create_directory(state_dir.path(), "name").unwrap();
        assert_ne!(first, second);
        for directory in [first, second] {
            assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
