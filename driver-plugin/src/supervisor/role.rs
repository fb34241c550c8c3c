//! The supervisor's role: what the process becomes when it starts, and its loop.

use std::env;
use std::fs::Permissions;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
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

use super::answers::answer;
use super::channel::Channel;
use super::course;
use super::record::{SOCKET, remove_directory};
use super::state::State;

/// How many conversations there may be at once. A plugin holds two for long, and a few more for moments.
const CONVERSATIONS: usize = 64;
/// How long the last conversations may take to end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long to wait after a connection could not be accepted, for lack of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The whole life of a supervisor. The second argument is its directory, which is there already. Nobody reads what it could
/// print: what goes wrong is told in its answers.
pub fn supervise() -> ExitCode {
    let lived = env::args_os().nth(2).map(PathBuf::from).map(|directory| live(&directory));
    if matches!(lived, Some(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn live(directory: &Path) -> io::Result<()> {
    close_inherited()?;
    settle(directory)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(directory))
}

/// Leaves the plugin's session, so that no terminal and no signal to its group reaches the supervisor.
fn settle(directory: &Path) -> io::Result<()> {
    // Fails only for the leader of a group, which is in a session of its own or was started by hand.
    let _ = setsid();
    umask(Mode::RWXG | Mode::RWXO);
    // A path through it would be too long for a socket's address in some places (unix(7): 108 bytes).
    env::set_current_dir(directory)?;
    set_name(c"pglp-supervisor")?;
    // One descriptor for each listening socket, on machines with many cores and addresses.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    Ok(())
}

/// Closes every descriptor but the standard ones. Whoever started the plugin may have left some open for its children,
/// and what is kept open here is kept open for as long as the task lives.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn close_inherited() -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one that the directory was read by is among them, and closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

async fn serve(directory: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(SOCKET)?;
    std::fs::set_permissions(SOCKET, Permissions::from_mode(0o600))?;
    let (state, inbox) = State::new(directory.to_owned());
    let state = Arc::new(state);
    let mut conversations = JoinSet::new();
    let course = course::run(&state, inbox);
    tokio::pin!(course);
    loop {
        tokio::select! {
            () = &mut course => break,
            accepted = listener.accept(), if conversations.len() < CONVERSATIONS => match accepted {
                Ok((stream, _)) => {
                    conversations.spawn(answer(Arc::clone(&state), Channel::new(stream)));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = conversations.join_next(), if !conversations.is_empty() => {}
        }
    }
    // From now on nobody gets in; the exit is on disk.
    drop(listener);
    let ending = async { while conversations.join_next().await.is_some() {} };
    let _ = timeout(LAST_WORDS, ending).await;
    if *state.forgotten.borrow() {
        remove_directory(directory)?;
    }
    Ok(())
}
