//! The file of the control socket: bound under a temporary name, given its group and mode, and only then put in its place.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::unistd::{Gid, Group, Uid, chown};
use tokio::net::UnixListener;

use super::Actions;
use super::peer::{Access, Peer};
use super::routes;
use crate::config;
use crate::http_server::{self, Limits};

/// How long a connection may last: longer than any command takes.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// The control socket, listening.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    access: Access,
    _file: SocketFile,
}

impl ControlSocket {
    /// Listens at the path of the configuration. Unless it is `shared` with a predecessor that still drains, no other
    /// process may answer there. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// If that fails; the error names the key.
    pub fn bind(config: &config::ControlSocket, shared: bool) -> Result<Self> {
        let group = config.group.as_deref().map(find_group).transpose()?;
        let access = Access { own: Uid::effective(), group };
        let path = &config.path;
        let (listener, file) = listen(path, group, shared)
            .with_context(|| format!("control.socket: cannot listen at {}", path.display()))?;
        Ok(Self { listener, access, _file: file })
    }

    /// Answers until the process ends, on at most `connections` at once.
    pub async fn serve(self, actions: Actions, connections: usize) -> Infallible {
        let router = routes::routes(actions, self.access);
        let limits = Limits { connections, time: CONNECTION_TIME };
        // A client that is gone already has no credentials.
        let of_peer = move |stream: &_| Some(routes::of_peer(&router, Peer::of(stream).ok()?));
        http_server::serve(self.listener, of_peer, limits).await
    }
}

fn find_group(name: &str) -> Result<Gid> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(name).with_context(|| format!("control.group: cannot look up {name}"))?;
    Ok(found.with_context(|| format!("control.group: there is no group {name}"))?.gid)
}

fn listen(path: &Path, group: Option<Gid>, shared: bool) -> Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => bail!("there is a file, which is no socket"),
        Ok(_) if !shared && unix::UnixStream::connect(path).is_ok() => bail!("another process answers there"),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    // One that a process of the same number has left behind.
    let _ = fs::remove_file(&temporary);
    let listener = unix::UnixListener::bind(&temporary)?;
    let mut file = SocketFile::at(temporary)?;
    // Only if need be: the process may not be allowed to change owners at all.
    if let Some(group) = group.filter(|group| !file.belongs_to(*group)) {
        chown(&file.path, None, Some(group)).context("cannot give the socket to control.group")?;
    }
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(&file.path, Permissions::from_mode(mode))?;
    fs::rename(&file.path, path)?;
    file.path = path.to_owned();
    listener.set_nonblocking(true)?;
    Ok((UnixListener::from_std(listener)?, file))
}

/// A socket's file, which is removed when this is dropped, unless a successor has put its own in the place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn at(path: PathBuf) -> io::Result<Self> {
        let device_and_inode = device_and_inode(&path)?;
        Ok(Self { path, device_and_inode })
    }

    fn belongs_to(&self, group: Gid) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.gid() == group.as_raw())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if device_and_inode(&self.path).is_ok_and(|found| found == self.device_and_inode) {
            // What is left behind is replaced by the next process.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn device_and_inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path, shared: bool) -> Result<ControlSocket> {
        ControlSocket::bind(&config::ControlSocket { path: path.to_owned(), group: None }, shared)
    }

    fn refusal(path: &Path, shared: bool) -> String {
        format!("{:#}", bind(path, shared).map(drop).unwrap_err())
    }

    #[tokio::test]
    async fn a_socket_that_nobody_answers_at_is_replaced_and_one_that_somebody_does_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        drop(unix::UnixListener::bind(&path).unwrap());
        let first = bind(&path, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(refusal(&path, false).ends_with("another process answers there"));
        let successor = bind(&path, true).unwrap();
        drop(first);
        assert!(unix::UnixStream::connect(&path).is_ok(), "the successor's file stays");
        drop(successor);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "no file is left behind");
    }

    #[tokio::test]
    async fn what_cannot_be_bound_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a file");
        fs::write(&path, "").unwrap();
        assert!(refusal(&path, true).ends_with("there is a file, which is no socket"));
        assert!(path.exists());
        let nowhere = refusal(&directory.path().join("no/such/directory"), false);
        assert!(nowhere.starts_with("control.socket: cannot listen at ") && nowhere.contains("No such file"));
        let config =
            config::ControlSocket { path: directory.path().join("x"), group: Some("no such".into()) };
        let group = format!("{:#}", ControlSocket::bind(&config, false).map(drop).unwrap_err());
        assert_eq!(group, "control.group: there is no group no such");
    }
}
