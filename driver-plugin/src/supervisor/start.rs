//! How the plugin starts a supervisor.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::channel::Channel;
use super::client::{Supervisor, ask, connect, describe, out_of_place};
use super::launch::{Launch, StartError};
use super::process::THIS_PROGRAM;
use super::protocol::{Reply, Request};
use super::record::{Record, remove_directory};
use super::{PROGRAM, ROLE};

/// How long everything may take, from nothing to a relay that listens.
const START_TIME: Duration = Duration::from_secs(20);
/// How long the supervisor of an earlier attempt may take to give way.
const GIVE_WAY_TIME: Duration = Duration::from_secs(5);
/// How often a supervisor that was started is looked for.
const LOOK: Duration = Duration::from_millis(2);
/// How many supervisors of one task there may be: one that runs, and some that keep sockets.
const ATTEMPTS: u32 = 1000;

/// From where supervisors are started.
#[derive(Clone, Debug)]
pub struct Base {
    /// The program that knows the roles of supervisor and relay.
    pub executable: PathBuf,
    /// Where each supervisor has its directory. It should be one that does not outlive a boot.
    pub state_dir: PathBuf,
}

impl Base {
    /// Supervisors that run the same program as this process, even if its file has been replaced.
    pub fn new(state_dir: PathBuf) -> Self {
        Self { executable: PathBuf::from(THIS_PROGRAM), state_dir }
    }
}

impl Supervisor {
    /// Starts a task, and returns once it listens.
    ///
    /// If the same task runs already, because an earlier plugin had started it and did not live to tell, it is that one.
    /// What is left of other attempts at the same task is cleaned up. When this is dropped half way, the supervisor
    /// notices and leaves nothing behind.
    ///
    /// # Errors
    /// Why it could not be started, within 20 seconds.
    pub async fn start(base: &Base, launch: Launch) -> Result<Self, StartError> {
        let starting = async {
            let name = directory_name(&launch.task.id);
            make_private(&base.state_dir).map_err(|error| {
                StartError::Transient(format!("cannot make {}: {error}", base.state_dir.display()))
            })?;
            match settle_earlier(&base.state_dir, &name, &launch).await {
                Some(record) => Ok(Self::of(record)),
                None => begin(base, &name, launch).await.map(Self::of),
            }
        };
        let started = timeout(START_TIME, starting).await;
        started.unwrap_or_else(|_| {
            Err(StartError::Transient(format!("the supervisor was not ready within {START_TIME:?}")))
        })
    }
}

/// Finds what earlier attempts at this task left: one that runs as it should is kept, anything else goes.
async fn settle_earlier(state_dir: &Path, name: &str, launch: &Launch) -> Option<Record> {
    let entries = state_dir.read_dir().into_iter().flatten().flatten();
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
                    _ => give_way(&directory).await,
                }
            }
            Err(error) if is_nobody(&error) => {
                // What cannot be removed is in nobody's way: each attempt has a directory of its own.
                let _ = remove_directory(&directory);
            }
            Err(_) => {}
        }
    }
    None
}

/// Ends a supervisor's relay, if it still runs. Its sockets are there for the one that is about to start.
async fn give_way(directory: &Path) {
    if let Ok(mut channel) = ask(directory, &Request::Destroy).await {
        // If it does not answer, it is no worse than one of another task.
        let _ = channel.expect::<Reply>(GIVE_WAY_TIME).await;
    }
}

/// Whether an error means that no supervisor is there any more.
pub(super) fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

async fn begin(base: &Base, name: &str, launch: Launch) -> Result<Record, StartError> {
    let directory = make_directory(&base.state_dir, name)
        .map_err(|error| StartError::Transient(format!("cannot make the supervisor's directory: {error}")))?;
    let mut channel = match spawn(&base.executable, &directory).await {
        Ok(channel) => channel,
        Err(error) => {
            // The supervisor is not there to do it.
            let _ = remove_directory(&directory);
            return Err(StartError::Transient(format!("cannot start the supervisor: {error}")));
        }
    };
    channel.send(&Request::Launch(Box::new(launch))).await.map_err(|error| {
        if error.kind() == ErrorKind::InvalidInput {
            return StartError::Fatal(format!("the task's environment and settings are too large: {error}"));
        }
        lost(&error)
    })?;
    let reply = channel.expect(START_TIME).await.map_err(|error| lost(&error))?;
    if let Reply::NotStarted(error) = reply {
        return Err(error);
    }
    let Reply::Up(record) = reply else { return Err(lost(&out_of_place(&reply))) };
    channel.send(&Request::Taken).await.map_err(|error| lost(&error))?;
    Ok(record)
}

fn lost(error: &io::Error) -> StartError {
    StartError::Transient(format!("the supervisor was lost: {error}"))
}

/// Starts a supervisor and waits until it listens. It inherits neither environment nor standard streams; as a child that
/// nobody waits for it is reaped by the runtime.
async fn spawn(executable: &Path, directory: &Path) -> io::Result<Channel> {
    let mut child = Command::new(executable)
        .arg0(PROGRAM)
        .arg(ROLE)
        .arg(directory)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    loop {
        match connect(directory).await {
            Ok(channel) => return Ok(channel),
            Err(error) if is_nobody(&error) => still_there(&mut child)?,
            Err(error) => return Err(error),
        }
        sleep(LOOK).await;
    }
}

fn still_there(child: &mut Child) -> io::Result<()> {
    match child.try_wait()? {
        None => Ok(()),
        Some(status) => Err(io::Error::other(format!("it ended at once: {status}"))),
    }
}

fn make_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Makes a directory that no other attempt at this task has.
fn make_directory(state_dir: &Path, name: &str) -> io::Result<PathBuf> {
    let state_dir = fs::canonicalize(state_dir)?;
    for attempt in 0..ATTEMPTS {
        let directory = state_dir.join(format!("{name}.{attempt}"));
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => return made.map(|()| directory),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// A task's id has slashes in it and may be long: its FNV-1a hash of 64 bits, which does not change between versions.
fn directory_name(task_id: &str) -> String {
    let hash = task_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_named_by_the_published_hash() {
        // From the test vectors of the algorithm's authors.
        assert_eq!(directory_name(""), "cbf29ce484222325");
        assert_eq!(directory_name("a"), "af63dc4c8601ec8c");
        assert_eq!(directory_name("foobar"), "85944171f73967e8");
    }

    #[test]
    fn each_attempt_has_a_directory_of_its_own() {
        let state_dir = tempfile::tempdir().unwrap();
        let first = make_directory(state_dir.path(), "name").unwrap();
        let second = make_directory(state_dir.path(), "name").unwrap();
        assert_ne!(first, second);
        for directory in [first, second] {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
