//! The file of the control socket: bound under a temporary name, given its group and mode, and only then put in its place.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Full;
use nix::unistd::{Gid, Group, Uid, chown};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tracing::warn;

use super::Actions;
use super::answers::ClusterAnswer;
use super::peer::{Access, Peer};
use super::routes;
use crate::config;
use crate::http_client::exchange;
use crate::http_server::{self, Limits};

/// How long a connection may last: longer than any command takes.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// How long the process that answers at the path may take to tell its cluster. It takes microseconds unless it hangs.
const CLUSTER_TIME: Duration = Duration::from_secs(3);

/// The control socket, listening.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    access: Access,
    _file: SocketFile,
}

impl ControlSocket {
    /// Listens at the path of the configuration, in the place of a process that is gone. If the path is `shared`, also in the
    /// place of a running proxy of the same `cluster`, such as a predecessor that still drains.
    ///
    /// # Errors
    /// If that fails; the error names the key.
    pub async fn bind(config: &config::ControlSocket, cluster: &str, shared: bool) -> Result<Self> {
        let group = config.group.as_deref().map(find_group).transpose()?;
        let access = Access::new(Uid::effective(), group);
        let path = &config.path;
        let cannot = || format!("control.socket: cannot listen at {}", path.display());
        check_free(path, cluster, shared).await.with_context(cannot)?;
        let (listener, file) = listen(path, group).with_context(cannot)?;
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

/// Checks that nobody answers at the path who must stay there.
async fn check_free(path: &Path, cluster: &str, shared: bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => bail!("there is a file, which is no socket"),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let Some(stream) = connect(path).await? else { return Ok(()) };
    if !shared {
        bail!("another process answers there");
    }
    match timeout(CLUSTER_TIME, cluster_of(stream)).await {
        Ok(Ok(other)) if other == cluster => Ok(()),
        Ok(Ok(other)) => {
            bail!("the proxy of cluster {other} answers there, and this is a proxy of cluster {cluster}")
        }
        // It may have ended meanwhile.
        Ok(Err(_)) if connect(path).await?.is_none() => Ok(()),
        Ok(Err(error)) => {
            Err(error.context("another process answers there, which does not tell its cluster"))
        }
        // A predecessor that hangs must not keep this process from starting.
        Err(_) => {
            warn!(path = %path.display(), "the process at the control socket does not answer, and is replaced");
            Ok(())
        }
    }
}

/// A connection to the process at the path; `None` if there is none. That a connection fails in another way does not mean that.
async fn connect(path: &Path) -> Result<Option<UnixStream>> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            Ok(None)
        }
        Err(error) => Err(error).context("cannot tell whether another process answers there"),
    }
}

/// The cluster of the proxy at the other end.
async fn cluster_of(stream: UnixStream) -> Result<String> {
    let request = Request::get(routes::CLUSTER).header(HOST, "proxy").body(Full::default())?;
    let (status, body) = exchange(stream, request).await?;
    if status != StatusCode::OK {
        bail!("it answered {status}: {}", body.trim());
    }
    Ok(serde_json::from_str::<ClusterAnswer>(&body)?.cluster)
}

fn listen(path: &Path, group: Option<Gid>) -> Result<(UnixListener, SocketFile)> {
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
    use axum::routing::get;
    use axum::{Json, Router};
    use tokio::task::JoinHandle;

    use super::*;

    async fn bind(path: &Path, shared: bool) -> Result<ControlSocket> {
        let config = config::ControlSocket { path: path.to_owned(), group: None };
        ControlSocket::bind(&config, "a", shared).await
    }

    async fn refusal(path: &Path, shared: bool) -> String {
        format!("{:#}", bind(path, shared).await.map(drop).unwrap_err())
    }

    /// A process at the path that tells this cluster, until it is aborted.
    fn answering(path: &Path, cluster: &'static str) -> JoinHandle<()> {
        let listener = UnixListener::bind(path).unwrap();
        let answer = move || async move { Json(ClusterAnswer { cluster: cluster.to_owned() }) };
        let router = Router::new().route(routes::CLUSTER, get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
    }

    #[tokio::test]
    async fn a_socket_that_nobody_answers_at_is_replaced_and_one_that_somebody_does_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        drop(unix::UnixListener::bind(&path).unwrap());
        let first = bind(&path, false).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(refusal(&path, false).await.ends_with("another process answers there"));
        drop(first);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "no file is left behind");
    }

    #[tokio::test]
    async fn a_shared_socket_is_taken_over_from_a_proxy_of_the_same_cluster_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let other = answering(&path, "b");
        let refused = refusal(&path, true).await;
        assert!(
            refused.contains("the proxy of cluster b answers there, and this is a proxy of cluster a"),
            "{refused}"
        );
        other.abort();
        fs::remove_file(&path).unwrap();
        let first = answering(&path, "a");
        let successor = bind(&path, true).await.unwrap();
        first.abort();
        assert!(unix::UnixStream::connect(&path).is_ok(), "the successor's file stays");
        drop(successor);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "no file is left behind");
    }

    #[tokio::test]
    async fn a_process_that_ends_leaves_the_file_of_its_successor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (_, first) = listen(&path, None).unwrap();
        let (_successor, second) = listen(&path, None).unwrap();
        drop(first);
        assert!(path.exists(), "the successor's file stays");
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_asked_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        // Another kind of socket: connecting to it fails, and somebody has it.
        let _other = unix::UnixDatagram::bind(&path).unwrap();
        for shared in [false, true] {
            let refused = refusal(&path, shared).await;
            assert!(refused.contains("cannot tell whether another process answers there: "), "{refused}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_bound_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a file");
        fs::write(&path, "").unwrap();
        assert!(refusal(&path, true).await.ends_with("there is a file, which is no socket"));
        assert!(path.exists());
        let nowhere = refusal(&directory.path().join("no/such/directory"), false).await;
        assert!(nowhere.starts_with("control.socket: cannot listen at ") && nowhere.contains("No such file"));
        let config =
            config::ControlSocket { path: directory.path().join("x"), group: Some("no such".into()) };
        let group = format!("{:#}", ControlSocket::bind(&config, "a", false).await.map(drop).unwrap_err());
        assert_eq!(group, "control.group: there is no group no such");
    }
}
