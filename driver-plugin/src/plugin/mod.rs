//! The plugin process: a go-plugin server with handshake, log, services and shutdown.

mod base;
mod handshake;
mod log;
mod log_queue;
mod services;
mod socket;

use std::env;
use std::io::{self, Write as _};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nomad_plugin_proto::base::base_plugin_server::BasePluginServer;
use nomad_plugin_proto::driver::driver_server::DriverServer;
use nomad_plugin_proto::plugin::grpc_controller_server::GrpcControllerServer;
use nomad_plugin_proto::plugin::grpc_stdio_server::GrpcStdioServer;
use tokio::net::UnixListener;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use self::base::BasePluginService;
use self::services::{Controller, Stdio};
use self::socket::Socket;
use crate::driver::{Driver, SharedConfig};

/// How long the plugin goes on after it was told to end, so that its answer is sent. The host waits 2 s.
const LAST_ANSWER: Duration = Duration::from_millis(20);
/// How long writing the last log lines may take.
const LAST_LINES: Duration = Duration::from_millis(100);
/// The largest message from the host, in bytes. The host's limit is 2 GiB; tonic's default of 4 MiB can be too small.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The name under which go-plugin checks the health of a plugin (go-plugin's guide for other languages asks for the
/// service).
const HEALTH_SERVICE: &str = "plugin";
/// One more than a single slow rpc can occupy.
const THREADS: usize = 2;

/// The role without arguments: the process that Nomad starts.
#[must_use]
pub fn main() -> ExitCode {
    if let Err(error) = handshake::check_host(|name| env::var_os(name)) {
        return fail(&error);
    }
    let log = match log::start(io::stderr()) {
        Ok(log) => log,
        Err(error) => return fail(&error),
    };
    let outcome = run();
    if let Err(error) = &outcome {
        tracing::error!("the plugin cannot serve: {error:#}");
    }
    log.flush(LAST_LINES);
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reports an error before there is a log, in a form that the host logs as an error.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    let _ = io::stderr().write_all(format!("[ERROR] {error}\n").as_bytes());
    ExitCode::FAILURE
}

fn run() -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let outcome = runtime.block_on(serve());
    // Streams that never end and blocked threads must not delay the exit.
    runtime.shutdown_background();
    outcome
}

async fn serve() -> anyhow::Result<()> {
    // Ctrl-C reaches the whole process group, and the agent needs its plugins for its own shutdown. A handler,
    // because children would inherit an ignored signal.
    let _interrupts = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let socket = Socket::new(|name| env::var_os(name)).context("cannot create a directory for the socket")?;
    let listener =
        socket.listen().with_context(|| format!("cannot listen on {}", socket.path().display()))?;
    let (controller, mut shutdown) = Controller::new();
    let mut server = pin!(services(listener, controller));
    handshake::announce(io::stdout().lock(), socket.path()).context("cannot write the handshake")?;
    tokio::select! {
        ended = &mut server => return ended.context("cannot accept connections any more"),
        _ = shutdown.wait_for(|requested| *requested) => {}
        _ = terminate.recv() => tracing::debug!("SIGTERM; tasks continue"),
    }
    // Meanwhile the answer to the shutdown request is sent.
    let _ = tokio::time::timeout(LAST_ANSWER, server).await;
    socket.remove().context("cannot remove the socket")
}

async fn services(listener: UnixListener, controller: Controller) -> Result<(), tonic::transport::Error> {
    let config = Arc::new(SharedConfig::default());
    let base = BasePluginServer::new(BasePluginService(Arc::clone(&config)));
    let driver = DriverServer::new(Driver::new(config));
    let (health, health_server) = tonic_health::server::health_reporter();
    health.set_service_status(HEALTH_SERVICE, ServingStatus::Serving).await;
    Server::builder()
        .add_service(base.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(driver.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(GrpcControllerServer::new(controller))
        .add_service(GrpcStdioServer::new(Stdio))
        .add_service(health_server)
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
}
