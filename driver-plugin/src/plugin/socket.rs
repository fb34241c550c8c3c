//! The socket to which the host connects, in a private directory.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::net::UnixListener;

/// The variable by which the host chooses the directory.
const DIRECTORY: &str = "PLUGIN_UNIX_SOCKET_DIR";

/// The longest path that fits into a socket address, whose 108 bytes include a NUL (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// The path of the socket, and its directory. Dropping it removes both.
#[derive(Debug)]
pub(super) struct Socket {
    directory: TempDir,
    path: PathBuf,
}

impl Socket {
    /// Creates the directory: where the host wants it, else among the temporary files, and below `/tmp` if the path
    /// is too long for a socket address.
    ///
    /// # Errors
    /// When the directory cannot be created.
    pub(super) fn new(variable: impl Fn(&str) -> Option<OsString>) -> io::Result<Self> {
        let wanted = variable(DIRECTORY).filter(|directory| !directory.is_empty());
        let base = wanted.map_or_else(std::env::temp_dir, PathBuf::from);
        let socket = Self::below(&base)?;
        if socket.path.as_os_str().as_bytes().len() <= PATH_BYTES_MAX {
            return Ok(socket);
        }
        Self::below(Path::new("/tmp"))
    }

    /// The path of the socket.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Listens on the socket.
    ///
    /// # Errors
    /// When the socket cannot be created.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        UnixListener::bind(&self.path)
    }

    /// Removes socket and directory.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub(super) fn remove(self) -> io::Result<()> {
        self.directory.close()
    }

    fn below(base: &Path) -> io::Result<Self> {
        let mode = Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("plugin").permissions(mode).tempdir_in(base)?;
        let path = std::path::absolute(directory.path())?.join("s");
        Ok(Self { directory, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket_in(directory: &Path) -> Socket {
        Socket::new(|name| (name == DIRECTORY).then(|| directory.into())).unwrap()
    }

    #[tokio::test]
    async fn the_socket_is_private_where_the_host_wants_it_and_can_be_removed() {
        let wanted = tempfile::tempdir().unwrap();
        let socket = socket_in(wanted.path());
        let listener = socket.listen().unwrap();
        let directory = socket.path().parent().unwrap().to_owned();
        assert_eq!(directory.parent(), Some(wanted.path()));
        assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        socket.remove().unwrap();
        assert!(!directory.exists());
        drop(listener);
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_replaced() {
        let wanted = tempfile::tempdir().unwrap();
        let deep = wanted.path().join("d".repeat(100));
        std::fs::create_dir(&deep).unwrap();
        let socket = socket_in(&deep);
        assert!(socket.path().starts_with("/tmp") && !socket.path().starts_with(&deep));
        socket.listen().unwrap();
        assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
    }
}
