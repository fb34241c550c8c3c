//! Keeps the supervisor reachable: when its control socket is lost, it is bound again at the same path.
//!
//! The state directory may be removed or renamed while tasks run, or something may be mounted over it. Nomad's handle has
//! the path, and other supervisors look there, so that is where the socket has to be.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;

use futures_util::stream::{self, Stream};
use tokio::net::UnixListener;
use tokio::time::{sleep, timeout};

use super::records::Records;
use super::state::State;
use crate::supervisor::record::CONTROL_SOCKET;
use crate::supervisor::{control_socket, deadlines};

/// The sockets that take the place of the first one, each when the one before is lost.
pub(super) fn replacements(state: Arc<State>) -> impl Stream<Item = UnixListener> {
    stream::unfold(state, async |state| {
        loop {
            sleep(deadlines::REACHABLE).await;
            if let Ok(Some(listener)) = replace(&state).await {
                return Some((listener, state));
            }
        }
    })
}

/// Binds the socket again if it is lost. The disk may hang, and this thread must not.
async fn replace(state: &State) -> io::Result<Option<UnixListener>> {
    let records = Records::of(state);
    let replacing = tokio::task::spawn_blocking(move || bind_if_lost(&records));
    let bound = timeout(deadlines::WRITE, replacing).await?.map_err(io::Error::other)??;
    bound.map(UnixListener::from_std).transpose()
}

fn bind_if_lost(records: &Records) -> io::Result<Option<StdListener>> {
    // A socket of somebody else is left alone: only a supervisor of the same task has the same path.
    if records.directory.join(CONTROL_SOCKET).try_exists()? {
        return Ok(None);
    }
    records.create_directory()?;
    // A task without records can still be reached.
    let _ = records.write();
    control_socket::bind(&records.directory).map(Some)
}
