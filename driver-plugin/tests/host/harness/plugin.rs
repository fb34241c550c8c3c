//! The plugin process and the connection to it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use nomad_plugin_proto::base::base_plugin_client::BasePluginClient;
use nomad_plugin_proto::base::{NomadConfig, SetConfigRequest};
use nomad_plugin_proto::driver::driver_client::DriverClient;
use nomad_plugin_proto::plugin::Empty;
use nomad_plugin_proto::plugin::grpc_controller_client::GrpcControllerClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Nomad sets this variable for every plugin.
pub(crate) const COOKIE: (&str, &str) =
    ("NOMAD_PLUGIN_MAGIC_COOKIE", "e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255");
/// How long a step may take that is not the subject of the test.
const PATIENCE: Duration = Duration::from_secs(20);

/// The driver's executable with the environment of a plugin, except the cookie.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nomad-driver-pg-leader-proxy"));
    command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

/// A plugin process and its state directory.
pub(crate) struct Plugin {
    child: Child,
    line: String,
    channel: Channel,
    state_dir: PathBuf,
    stderr: Arc<Mutex<String>>,
    pipes: Option<(BufReader<ChildStdout>, BufReader<ChildStderr>)>,
    readers: Vec<JoinHandle<()>>,
}

impl Plugin {
    /// Starts a plugin and configures it, as an agent does for use.
    pub(crate) async fn start(state_dir: &Path) -> Self {
        let plugin = Self::launch(program().env(COOKIE.0, COOKIE.1), state_dir).await;
        plugin.configure(Some(NomadConfig::default())).await;
        plugin
    }

    /// Starts a plugin with this command, up to the handshake.
    pub(crate) async fn launch(command: &mut Command, state_dir: &Path) -> Self {
        let mut plugin = Self::launch_unread(command, state_dir).await;
        let (mut stdout, mut pipe) = plugin.pipes.take().unwrap();
        let read = Arc::clone(&plugin.stderr);
        plugin.readers = vec![
            thread::spawn(move || {
                let mut rest = Vec::new();
                stdout.read_to_end(&mut rest).unwrap();
                assert_eq!(String::from_utf8_lossy(&rest), "", "nothing follows the handshake on stdout");
            }),
            thread::spawn(move || {
                let mut line = String::new();
                while pipe.read_line(&mut line).unwrap() > 0 {
                    read.lock().unwrap().push_str(&line);
                    line.clear();
                }
            }),
        ];
        plugin
    }

    /// The same, but nobody reads its standard output and error.
    pub(crate) async fn launch_unread(command: &mut Command, state_dir: &Path) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let channel = connect(&socket_of(&line)).await;
        Self {
            child,
            line,
            channel,
            state_dir: state_dir.to_owned(),
            stderr: Arc::default(),
            pipes: Some((stdout, stderr)),
            readers: Vec::new(),
        }
    }

    /// Closes the pipes that nobody reads, as the death of the agent does.
    pub(crate) fn close_pipes(&mut self) {
        self.pipes = None;
    }

    /// `SetConfig` with the state directory.
    pub(crate) async fn configure(&self, nomad_config: Option<NomadConfig>) {
        let config = serde_json::json!({ "state_dir": self.state_dir, "keep_listening": "1s" });
        let request = SetConfigRequest {
            msgpack_config: rmp_serde::to_vec(&config).unwrap(),
            nomad_config,
            plugin_api_version: "v0.1.0".into(),
        };
        self.base().set_config(request).await.unwrap();
    }

    /// The handshake.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// The path of the socket.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_of(&self.line)
    }

    /// The pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The connection.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Connects again, as a restarted agent does.
    pub(crate) async fn reattach(&mut self) {
        self.channel = connect(&self.socket()).await;
    }

    pub(crate) fn base(&self) -> BasePluginClient<Channel> {
        BasePluginClient::new(self.channel())
    }

    pub(crate) fn driver(&self) -> DriverClient<Channel> {
        DriverClient::new(self.channel())
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Ends the plugin as an agent does. Returns the time from the request to the end of both pipes, the exit status
    /// and the log.
    pub(crate) async fn kill(mut self) -> (Duration, ExitStatus, String) {
        let start = Instant::now();
        GrpcControllerClient::new(self.channel()).shutdown(Empty {}).await.unwrap();
        let status = self.wait().await;
        (start.elapsed(), status, self.log())
    }

    /// Kills the plugin.
    pub(crate) async fn crash(mut self) {
        self.child.kill().unwrap();
        self.wait().await;
    }

    /// Waits for the end of the process and of both pipes: it fails if a child keeps a pipe open.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().unwrap();
            if let Some(status) = ended.filter(|_| self.readers.iter().all(JoinHandle::is_finished)) {
                for reader in self.readers.drain(..) {
                    reader.join().unwrap();
                }
                return status;
            }
            assert!(Instant::now() < deadline, "the plugin, or another process with its pipes, still runs");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(directory) = self.socket().parent() {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

fn socket_of(line: &str) -> PathBuf {
    let fields: Vec<&str> = line.trim().split('|').collect();
    assert_eq!((fields.len(), fields[2], fields[4]), (5, "unix", "grpc"), "{line}");
    PathBuf::from(fields[3])
}

async fn connect(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://unused").connect_with_connector(connector).await.unwrap()
}
