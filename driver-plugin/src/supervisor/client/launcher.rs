//! How the plugin starts a supervisor and its task.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::SupervisorClient;
use crate::channel::Channel;
use crate::supervisor::control_socket::{connect, describe, is_gone, request, unexpected};
use crate::supervisor::deadlines;
use crate::supervisor::launch::{LaunchSpec, StartError};
use crate::supervisor::protocol::{Reply, Request};
use crate::supervisor::record::{TaskRecord, remove_directory};
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
    /// else is left of earlier attempts is removed. When this future is dropped, the supervisor notices and leaves
    /// nothing behind.
    ///
    /// # Errors
    /// Why the task did not start. It takes at most 20 seconds.
    pub async fn start(&self, launch: LaunchSpec) -> Result<SupervisorClient, StartError> {
        let starting = async {
            let name = directory_name(&launch.task.id);
            create_private(&self.state_dir).map_err(|error| {
                StartError::Transient(format!("cannot create {}: {error}", self.state_dir.display()))
            })?;
            match self.clean_up_earlier(&name, &launch).await {
                Some(record) => Ok(record),
                None => self.start_new(&name, launch).await,
            }
        };
        let started = timeout(deadlines::START, starting).await.unwrap_or_else(|_| {
            Err(StartError::Transient(format!("the supervisor was not ready within {:?}", deadlines::START)))
        });
        started.map(SupervisorClient::of)
    }

    /// Finds what earlier attempts at this task left. A task that runs with the same specification is returned;
    /// everything else is removed.
    async fn clean_up_earlier(&self, name: &str, launch: &LaunchSpec) -> Option<TaskRecord> {
        let entries = self.state_dir.read_dir().into_iter().flatten().flatten();
        let of_this_task =
            |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == name) && path.extension().is_some();
        for directory in entries.map(|entry| entry.path()).filter(of_this_task) {
            match describe(&directory).await {
                Ok(found) => {
                    let Some(known) = found.launch.filter(|known| known.task.id == launch.task.id) else {
                        continue;
                    };
                    match (found.record, found.exit) {
                        (Some(record), None) if known == *launch => return Some(record),
                        _ => end_earlier(&directory).await,
                    }
                }
                Err(error) if is_gone(&error) => {
                    // A directory that cannot be removed does no harm: each attempt uses a new one.
                    let _ = remove_directory(&directory);
                }
                Err(_) => {}
            }
        }
        None
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

/// Ends the task of an earlier attempt, if it still runs. Its sockets are taken over by the next one.
async fn end_earlier(directory: &Path) {
    if let Ok(mut channel) = request(directory, &Request::Destroy).await {
        // Without a reply it is like any other supervisor that holds the address.
        let _ = channel.expect::<Reply>(deadlines::REPLY).await;
    }
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

fn create_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
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
