//! The sockets of a task that starts: what earlier tasks of its job kept, and new ones.
//!
//! One address has one live task. A task that accepts clients keeps its address, whatever its job. One that has ended, or
//! drains, hands its sockets over to the next task of the same job; for a task of another job it closes them, since the
//! clients in their backlog wanted another database.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::listen;
use super::socket_store::SocketStore;
use super::state::State;
use crate::supervisor::control_socket::{self, describe, unexpected};
use crate::supervisor::deadlines;
use crate::supervisor::launch::{LaunchSpec, Occupant, StartError, overlap};
use crate::supervisor::protocol::{Description, Reply, Request};

/// The pause before an address is tried again that a neighbour is letting go.
const RETRY: Duration = Duration::from_millis(20);

/// Fills the store with a socket for each of these addresses that has none.
///
/// # Errors
/// When another task accepts clients on one, or it cannot be bound.
pub(super) async fn acquire(
    state: &State,
    launch: &LaunchSpec,
    addresses: &[SocketAddr],
) -> Result<(), StartError> {
    let missing = state.sockets.borrow().missing(addresses);
    if missing.is_empty() {
        return Ok(());
    }
    let directories = others(&state.directory, &launch.earlier_state_dirs);
    // One that has ended or does not reply cannot be asked; the kernel refuses an address that it still has.
    let neighbours: Vec<(PathBuf, Description)> =
        join_all(directories.into_iter().map(ask)).await.into_iter().flatten().collect();
    if let Some(occupant) = neighbours.iter().find_map(|(path, found)| occupant(path, found, &missing)) {
        return Err(StartError::Occupied(Box::new(occupant)));
    }
    let obtaining = neighbours.iter().map(|(path, found)| obtain(state, launch, &missing, path, found));
    let let_go = join_all(obtaining).await.contains(&true);
    bind(&state.sockets, &missing, if let_go { deadlines::HANDOVER } else { Duration::ZERO }).await
}

/// The directories of all other supervisors.
fn others(own: &Path, earlier: &[PathBuf]) -> Vec<PathBuf> {
    let parents = own.parent().into_iter().chain(earlier.iter().map(PathBuf::as_path));
    let entries = parents.filter_map(|parent| parent.read_dir().ok()).flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path != own).collect()
}

async fn ask(directory: PathBuf) -> Option<(PathBuf, Description)> {
    let found = timeout(deadlines::HANDOVER, describe(&directory)).await.ok()?.ok()?;
    Some((directory, found))
}

/// The task that accepts clients where another one is wanted. An older supervisor does not tell where it listens; then
/// the kernel refuses the address.
fn occupant(directory: &Path, found: &Description, wanted: &[SocketAddr]) -> Option<Occupant> {
    let launch = found.launch.as_ref().filter(|_| found.accepting)?;
    let conflict = |held: &SocketAddr| {
        wanted.iter().find(|addr| *addr == held || overlap(**addr, *held)).map(|addr| (*addr, *held))
    };
    let (wanted, held) = found.listening.iter().find_map(conflict)?;
    Some(Occupant {
        wanted,
        held,
        task: launch.task.clone(),
        job: launch.job(),
        alloc_dir: launch.alloc_dir.clone(),
        directory: directory.to_owned(),
    })
}

/// Takes over what a task of the same job kept, or has a task of another job close what it kept. Returns whether the
/// neighbour let go of addresses.
async fn obtain(
    state: &State,
    launch: &LaunchSpec,
    addresses: &[SocketAddr],
    directory: &Path,
    found: &Description,
) -> bool {
    let same_job = found.launch.as_ref().is_some_and(|other| other.job() == launch.job());
    let obtained = async {
        if same_job {
            take_over(&state.sockets, addresses, directory).await
        } else {
            release(addresses, directory).await
        }
    };
    matches!(timeout(deadlines::HANDOVER, obtained).await, Ok(Ok(())))
}

async fn take_over(
    store: &watch::Sender<SocketStore>,
    addresses: &[SocketAddr],
    directory: &Path,
) -> io::Result<()> {
    let take = Request::TakeSockets(addresses.to_vec());
    let mut channel = control_socket::request(directory, &take).await?;
    loop {
        let Reply::Sockets(addresses) = channel.expect(deadlines::HANDOVER).await? else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if addresses.is_empty() {
            return channel.send(&Request::Ack).await;
        }
        let descriptors = channel.take_descriptors(addresses.len())?;
        let sockets: Vec<TcpListener> = descriptors.into_iter().map(TcpListener::from).collect();
        for (addr, socket) in addresses.iter().zip(&sockets) {
            listen::verify(*addr, socket)?;
        }
        store.send_modify(|store| store.extend(addresses.into_iter().zip(sockets)));
    }
}

async fn release(addresses: &[SocketAddr], directory: &Path) -> io::Result<()> {
    let release = Request::Release(addresses.to_vec());
    let reply = control_socket::request(directory, &release).await?.expect(deadlines::HANDOVER).await?;
    if matches!(reply, Reply::Done) { Ok(()) } else { Err(unexpected(&reply)) }
}

/// Binds the addresses that no neighbour had a socket for. A neighbour that drains has told its process to let go, and
/// the process may take until `limit`.
async fn bind(
    store: &watch::Sender<SocketStore>,
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<(), StartError> {
    let deadline = Instant::now() + limit;
    let missing = store.borrow().missing(addresses);
    for addr in missing {
        let socket = loop {
            match listen::alone(addr) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    sleep(RETRY).await;
                }
                bound => break bound,
            }
        };
        let socket = socket.map_err(|error| {
            StartError::Transient(format!("cannot listen on {addr}: {}", explain(&error)))
        })?;
        store.send_modify(|store| store.extend([(addr, socket)]));
    }
    Ok(())
}

fn explain(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::AddrInUse, "another program listens there"),
        (io::ErrorKind::AddrNotAvailable, "this machine has no such address"),
    ];
    let text = known.iter().find(|(kind, _)| *kind == error.kind());
    text.map_or_else(|| error.to_string(), |(_, text)| (*text).to_owned())
}
