//! The supervisor process.
//!
//! | module | content |
//! | --- | --- |
//! | `requests` | answers plugins and other supervisors |
//! | `lifecycle` | start of the task, its exit, and the time for which sockets are kept |
//! | `restarts` | how often a crashed proxy process is started again |
//! | `proxy_process` | the child process |
//! | `neighbours`, `listen` | from whom its sockets come: other supervisors, or the kernel |
//! | `state` | what requests and lifecycle share; `event_queue` and `socket_store` are parts of it |
//! | `records`, `reachable` | what is in its directory for others, and how it is put there again when the directory is lost |
//! | `log_files` | opens the FIFOs of Nomad's log collector |

mod event_queue;
mod lifecycle;
mod listen;
mod log_files;
mod neighbours;
mod proxy_process;
mod reachable;
mod records;
mod requests;
mod restarts;
mod socket_store;
mod state;

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid, umask};
use rustix::thread::set_name;
use tokio::net::UnixListener;
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::state::State;
use super::control_socket::{self, is_trusted};
use super::deadlines;
use super::record::remove_directory;
use crate::channel::Channel;
use crate::roles::close_inherited_descriptors;

/// How many connections may be open at once. A plugin holds two for long, and a few more for moments.
const CONNECTIONS_MAX: usize = 64;
/// The pause after a connection could not be accepted, usually for lack of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The role `supervisor DIRECTORY`. The directory exists already. Standard output and error lead nowhere: problems are
/// reported in replies.
#[must_use]
pub fn main() -> ExitCode {
    let directory = env::args_os().nth(2).map(PathBuf::from);
    let ended = directory.map(|directory| run(&directory));
    if matches!(ended, Some(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(directory: &Path) -> io::Result<()> {
    close_inherited_descriptors()?;
    detach()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(directory));
    // A thread may be blocked by a disk that hangs.
    runtime.shutdown_background();
    served
}

/// Leaves the plugin's session, so that neither its terminal nor a signal to its process group reaches the supervisor.
fn detach() -> io::Result<()> {
    // It fails only for a process group leader, which a shell may have made of this process.
    let _ = setsid();
    umask(Mode::RWXG | Mode::RWXO);
    // So that the file system of the state directory can be unmounted.
    env::set_current_dir("/")?;
    set_name(c"pglp-supervisor")?;
    // There is a descriptor for each listening socket, and a socket for each core and address.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    Ok(())
}

async fn serve(directory: &Path) -> io::Result<()> {
    let mut listener = UnixListener::from_std(control_socket::bind(directory)?)?;
    let (state, inbox) = State::new(directory.to_owned());
    let state = Arc::new(state);
    let mut connections = JoinSet::new();
    let mut lifecycle = pin!(lifecycle::run(&state, inbox));
    let mut replacements = pin!(reachable::replacements(Arc::clone(&state)));
    loop {
        tokio::select! {
            () = &mut lifecycle => break,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) if !is_trusted(&stream) => drop(stream),
                Ok((stream, _)) => {
                    connections.spawn(requests::answer(Arc::clone(&state), Channel::new(stream)));
                }
                Err(_) => sleep(ACCEPT_RETRY).await,
            },
            Some(bound) = replacements.next() => listener = bound,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    // The exit is recorded; from now on nobody can connect.
    drop(listener);
    let closing = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(deadlines::LAST_CONNECTIONS, closing).await;
    if *state.discarded.borrow() {
        remove_directory(directory)?;
    }
    Ok(())
}
