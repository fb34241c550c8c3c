//! The socket that the host connects to, in a directory that only we may enter.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::net::UnixListener;

/// Where the host wants the socket, if it says so.
const DIRECTORY: &str = "PLUGIN_UNIX_SOCKET_DIR";

/// The longest path that fits into a unix socket's address, whose 108 bytes include a NUL.
const PATH_BYTES_MAX: usize = 107;

/// The listening socket and its directory, both gone when this is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    directory: TempDir,
    path: PathBuf,
}

impl Socket {
    /// A place for the socket: where the host wants it, else among the temporary files. A path that is too long for an
    /// address is replaced by one below `/tmp`.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub(super) fn place(variable: impl Fn(&str) -> Option<OsString>) -> io::Result<Self> {
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

    /// Listens there.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        UnixListener::bind(&self.path)
    }

    /// Removes socket and directory.
    ///
    /// # Errors
    /// When something is left.
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

    fn place_in(directory: &Path) -> Socket {
        Socket::place(|name| (name == DIRECTORY).then(|| directory.into())).unwrap()
    }

    #[tokio::test]
    async fn the_socket_is_private_where_the_host_wants_it_and_removed_at_the_end() {
        let wanted = tempfile::tempdir().unwrap();
        let socket = place_in(wanted.path());
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
        let socket = place_in(&deep);
        assert!(socket.path().starts_with("/tmp") && !socket.path().starts_with(&deep));
        socket.listen().unwrap();
        assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
    }
}
