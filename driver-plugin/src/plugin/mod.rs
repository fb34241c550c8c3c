//! A go-plugin server: handshake, log lines, the services that every plugin has, and the end.

mod base;
mod handshake;
mod log;
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
use nomad_plugin_proto::plugin::grpc_broker_server::GrpcBrokerServer;
use nomad_plugin_proto::plugin::grpc_controller_server::GrpcControllerServer;
use nomad_plugin_proto::plugin::grpc_stdio_server::GrpcStdioServer;
use tokio::net::UnixListener;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use self::base::Base;
use self::services::{Broker, Controller, Stdio};
use self::socket::Socket;
use crate::driver::{Driver, Host};

/// How long the plugin lives on after it was told to end, so that the answer leaves. The host waits 2 s.
const LAST_ANSWER: Duration = Duration::from_millis(20);
/// How long the last log lines may take.
const LAST_LINES: Duration = Duration::from_millis(100);
/// The largest message from the host. Its own limit is 2 GiB, tonic's default of 4 MiB can be too small.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The name under which go-plugin asks for the plugin's health.
const HEALTH: &str = "plugin";
/// How many threads answer: one more than can be busy with a single slow answer.
const THREADS: usize = 2;

/// The role of the process that Nomad starts.
#[must_use]
pub fn main() -> ExitCode {
    match handshake::invited(|name| env::var_os(name)) {
        Ok(()) => {}
        Err(refusal) => return refuse(&refusal),
    }
    let log = match log::start(io::stderr()) {
        Ok(log) => log,
        Err(error) => return refuse(&error),
    };
    let outcome = run();
    if let Err(error) = &outcome {
        tracing::error!("the plugin cannot serve: {error:#}");
    }
    log.flush(LAST_LINES);
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says why on standard error, before there is a log. The form is one that a host shows as an error.
fn refuse(why: &dyn std::error::Error) -> ExitCode {
    // There may be nobody who reads it.
    let _ = io::stderr().write_all(format!("[ERROR] {why}\n").as_bytes());
    ExitCode::FAILURE
}

fn run() -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("threads cannot be started")?;
    let outcome = runtime.block_on(serve());
    // Streams that never end, and whatever is blocked, must not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn serve() -> anyhow::Result<()> {
    // Ctrl-C reaches the whole process group, and the agent still needs its plugins for its own end. A handler and not
    // "ignore", which children would inherit.
    let _interrupts = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let socket = Socket::place(|name| env::var_os(name)).context("no directory for the socket")?;
    let listener =
        socket.listen().with_context(|| format!("cannot listen on {}", socket.path().display()))?;
    let (controller, mut end) = Controller::new();
    let mut server = pin!(services(listener, controller));
    handshake::announce(io::stdout().lock(), socket.path()).context("the host takes no handshake")?;
    tokio::select! {
        ended = &mut server => return ended.context("the plugin cannot listen any more"),
        _ = end.wait_for(|end| *end) => {}
        _ = terminate.recv() => tracing::debug!("SIGTERM: the plugin ends; its tasks go on"),
    }
    // The answer to the request to end leaves meanwhile.
    let _ = tokio::time::timeout(LAST_ANSWER, server).await;
    socket.remove().context("the socket cannot be removed")
}

async fn services(listener: UnixListener, controller: Controller) -> Result<(), tonic::transport::Error> {
    let host = Arc::new(Host::default());
    let base = BasePluginServer::new(Base::new(Arc::clone(&host)));
    let driver = DriverServer::new(Driver::new(host));
    let (health, health_server) = tonic_health::server::health_reporter();
    health.set_service_status(HEALTH, ServingStatus::Serving).await;
    Server::builder()
        .add_service(base.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(driver.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(GrpcControllerServer::new(controller))
        .add_service(GrpcStdioServer::new(Stdio))
        .add_service(GrpcBrokerServer::new(Broker))
        .add_service(health_server)
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
}
