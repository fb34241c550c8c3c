//! Closes listening sockets that supervisors keep although their tasks have ended.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::supervisor::control_socket::{describe, request, unexpected};
use crate::supervisor::deadlines;
use crate::supervisor::launch::{JobName, TaskName, overlap};
use crate::supervisor::protocol::{Reply, Request};

/// Which sockets are to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Those of this address, and of addresses that overlap with it.
    Address(SocketAddr),
    /// Those of the tasks of this job, in whatever namespace.
    Job(String),
}

impl Wanted {
    /// An address such as `10.0.0.1:5433`, or else the id of a job.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Job(text.to_owned()), Self::Address)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Job(id) => write!(f, "the job `{id}`"),
        }
    }
}

/// The sockets of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSockets {
    /// The addresses on which they listen.
    pub addresses: Vec<SocketAddr>,
    /// The task.
    pub task: TaskName,
    /// Its job.
    pub job: JobName,
}

impl fmt::Display for TaskSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addresses, task, job } = self;
        let mut addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let addresses = addresses.join(", ");
        write!(
            f,
            "{addresses} of the job `{}` (namespace `{}`, allocation {})",
            job.id, job.namespace, task.alloc_id
        )
    }
}

/// Why no sockets were closed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The state directory cannot be read.
    #[error("cannot read the state directory {}: {error}", .directory.display())]
    StateDir {
        /// The directory.
        directory: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// A task accepts clients there.
    #[error("a task accepts clients on {0}: stop its job first")]
    Accepting(TaskSockets),
    /// No supervisor keeps such sockets.
    #[error("nobody keeps sockets of {wanted}; {}", listed(.kept))]
    Nobody {
        /// What was to be closed.
        wanted: Wanted,
        /// What is kept.
        kept: Vec<TaskSockets>,
    },
    /// A supervisor did not do it.
    #[error("the supervisor that keeps {0} did not close them: {1}")]
    Refused(TaskSockets, io::Error),
}

fn listed(sockets: &[TaskSockets]) -> String {
    if sockets.is_empty() {
        return "no supervisor keeps any".to_owned();
    }
    let sockets: Vec<String> = sockets.iter().map(ToString::to_string).collect();
    format!("kept are those of {}", sockets.join("; "))
}

/// Has the supervisors below `state_dir` close these sockets, and returns which were closed. Clients that wait in them
/// are reset.
///
/// # Errors
/// When nobody keeps such sockets, or a task accepts clients there.
pub async fn release(state_dir: &Path, wanted: &Wanted) -> Result<Vec<TaskSockets>, ReleaseError> {
    let known = all(state_dir).await?;
    let asked: Vec<&Known> = known.iter().filter(|known| known.is(wanted)).collect();
    if let Some(known) = asked.iter().find(|known| known.accepting) {
        return Err(ReleaseError::Accepting(known.sockets.clone()));
    }
    if asked.is_empty() {
        let kept = known.into_iter().filter(|known| !known.accepting).map(|known| known.sockets).collect();
        return Err(ReleaseError::Nobody { wanted: wanted.clone(), kept });
    }
    let mut released = Vec::new();
    for Known { directory, sockets, .. } in asked {
        let sockets = TaskSockets { addresses: wanted.among(&sockets.addresses), ..sockets.clone() };
        if let Err(error) = close(directory, &sockets.addresses).await {
            return Err(ReleaseError::Refused(sockets, error));
        }
        released.push(sockets);
    }
    Ok(released)
}

impl Wanted {
    /// Those of the addresses of a task that are meant.
    fn among(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let meant = |held: &&SocketAddr| match self {
            Self::Address(address) => *held == address || overlap(**held, *address),
            Self::Job(_) => true,
        };
        addresses.iter().filter(meant).copied().collect()
    }
}

/// A supervisor that has listening sockets.
struct Known {
    directory: PathBuf,
    accepting: bool,
    sockets: TaskSockets,
}

impl Known {
    fn is(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Address(_) => !wanted.among(&self.sockets.addresses).is_empty(),
            Wanted::Job(id) => self.sockets.job.id == *id,
        }
    }
}

/// The supervisors below `state_dir` that reply and have sockets.
async fn all(state_dir: &Path) -> Result<Vec<Known>, ReleaseError> {
    let unreadable = |error| ReleaseError::StateDir { directory: state_dir.to_owned(), error };
    let entries = state_dir.read_dir().map_err(unreadable)?;
    let asking = entries.flatten().map(|entry| ask(entry.path()));
    Ok(join_all(asking).await.into_iter().flatten().collect())
}

async fn ask(directory: PathBuf) -> Option<Known> {
    let found = timeout(deadlines::REPLY, describe(&directory)).await.ok()?.ok()?;
    let launch = found.launch.filter(|_| !found.listening.is_empty())?;
    let sockets = TaskSockets { addresses: found.listening, job: launch.job(), task: launch.task };
    Some(Known { directory, accepting: found.accepting, sockets })
}

async fn close(directory: &Path, addresses: &[SocketAddr]) -> io::Result<()> {
    let release = Request::Release(addresses.to_vec());
    let reply = request(directory, &release).await?.expect(deadlines::REPLY).await?;
    if let Reply::Failed(problem) = reply {
        return Err(io::Error::other(problem));
    }
    if matches!(reply, Reply::Done) { Ok(()) } else { Err(unexpected(&reply)) }
}
