//! A supervisor's control socket: how it is bound, how to connect to it, and how to send a request.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;
use tokio::net::UnixStream;

use super::deadlines;
use super::protocol::{Description, Reply, Request};
use super::record::CONTROL_SOCKET;
use crate::channel::Channel;

/// Binds the socket of a supervisor in `directory`. It is ready for a runtime.
///
/// # Errors
/// `AddrInUse` when there is one; else what the operating system says.
pub(super) fn bind(directory: &Path) -> io::Result<UnixListener> {
    let (_open, path) = path(directory)?;
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to the supervisor in `directory`.
///
/// # Errors
/// See [`is_gone`] for the errors that mean that no supervisor is there; else what the operating system says.
pub(super) async fn connect(directory: &Path) -> io::Result<Channel> {
    let (_open, path) = path(directory)?;
    let stream = UnixStream::connect(path).await?;
    if !is_trusted(&stream) {
        let text = "the process that answers is not a supervisor: it runs as another user";
        return Err(io::Error::new(ErrorKind::PermissionDenied, text));
    }
    Ok(Channel::new(stream))
}

/// A short path of the socket, which is valid while the descriptor is open: the whole path may not fit into the 108 bytes
/// of a socket address (unix(7)).
fn path(directory: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{CONTROL_SOCKET}", directory.as_raw_fd()));
    Ok((directory, path))
}

/// Whether the peer runs as root or as this process's user. What is sent contains secrets, and what is received is
/// obeyed.
pub(super) fn is_trusted(stream: &UnixStream) -> bool {
    let trusted = |uid| uid == 0 || uid == geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| trusted(peer.uid()))
}

/// Connects to the supervisor in `directory` and sends a request.
///
/// # Errors
/// As [`connect`] and [`Channel::send`].
pub(super) async fn request(directory: &Path, request: &Request) -> io::Result<Channel> {
    let channel = connect(directory).await?;
    channel.send(request).await?;
    Ok(channel)
}

/// Asks the supervisor in `directory` what it runs.
///
/// # Errors
/// As [`request`], and `TimedOut` when it does not reply.
pub(super) async fn describe(directory: &Path) -> io::Result<Description> {
    let reply = request(directory, &Request::Describe).await?.expect(deadlines::REPLY).await?;
    if let Reply::Description(description) = reply { Ok(*description) } else { Err(unexpected(&reply)) }
}

/// Whether an error of [`connect`] means that no supervisor is there any more.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

/// The error for a reply that does not belong to the request.
pub(super) fn unexpected(reply: &Reply) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("unexpected reply from the supervisor: {reply:?}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::thread;

    use rustix::process::Uid;
    use rustix::thread::set_thread_uid;

    use super::*;
    use crate::user::{Account, DEFAULT};

    #[tokio::test]
    async fn a_listener_of_another_user_is_told_nothing() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let nobody = Account::find(DEFAULT).unwrap();
        let socket = directory.path().join(CONTROL_SOCKET);
        // What the kernel tells of a listener is the user of the thread that began to listen.
        let bound = thread::spawn(move || {
            set_thread_uid(Uid::from_raw(nobody.uid)).expect("the tests of the driver run as root");
            UnixListener::bind(socket).unwrap()
        });
        let listener = bound.join().unwrap();
        let error = request(directory.path(), &Request::Describe).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("runs as another user"), "{error}");
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_listener_of_the_same_user_is_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let _listener = bind(directory.path()).unwrap();
        connect(directory.path()).await.unwrap();
    }
}
