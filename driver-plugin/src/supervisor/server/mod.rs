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
//! | `log_files` | opens the FIFOs of Nomad's log collector |

mod event_queue;
mod lifecycle;
mod listen;
mod log_files;
mod neighbours;
mod proxy_process;
mod requests;
mod restarts;
mod socket_store;
mod state;

use std::env;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid, umask};
use rustix::thread::set_name;
use tokio::net::UnixListener;
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::state::State;
use super::control_socket::is_trusted;
use super::deadlines;
use super::record::{CONTROL_SOCKET, remove_directory};
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
    detach(directory)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(directory));
    // A thread may be blocked by a disk that hangs.
    runtime.shutdown_background();
    served
}

/// Leaves the plugin's session, so that neither its terminal nor a signal to its process group reaches the supervisor.
fn detach(directory: &Path) -> io::Result<()> {
    // It fails only for a process group leader, which a shell may have made of this process.
    let _ = setsid();
    umask(Mode::RWXG | Mode::RWXO);
    // The socket is bound by its name alone: the whole path may not fit into the 108 bytes of a socket address
    // (unix(7)).
    env::set_current_dir(directory)?;
    set_name(c"pglp-supervisor")?;
    // There is a descriptor for each listening socket, and a socket for each core and address.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    Ok(())
}

async fn serve(directory: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(CONTROL_SOCKET)?;
    fs::set_permissions(CONTROL_SOCKET, Permissions::from_mode(0o600))?;
    let (state, inbox) = State::new(directory.to_owned());
    let state = Arc::new(state);
    let mut connections = JoinSet::new();
    let mut lifecycle = pin!(lifecycle::run(&state, inbox));
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
