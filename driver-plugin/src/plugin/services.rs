//! The services that go-plugin itself uses: the end of the plugin, and its output.
//!
//! go-plugin's broker is left out: no call to a driver uses it.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use nomad_plugin_proto::plugin::grpc_controller_server::GrpcController;
use nomad_plugin_proto::plugin::grpc_stdio_server::GrpcStdio;
use nomad_plugin_proto::plugin::{Empty, StdioData};
use tokio::sync::watch;
use tonic::{Request, Response, Status, async_trait};

/// Ends the plugin when the host asks for it.
#[derive(Debug)]
pub(super) struct Controller(watch::Sender<bool>);

impl Controller {
    /// A controller, and a flag that becomes true when the plugin has to end.
    pub(super) fn new() -> (Self, watch::Receiver<bool>) {
        let (shutdown, requested) = watch::channel(false);
        (Self(shutdown), requested)
    }
}

#[async_trait]
impl GrpcController for Controller {
    /// Answers at once: the host waits for the answer without a deadline.
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        tracing::debug!("shutdown requested by the host; tasks continue");
        self.0.send_replace(true);
        Ok(Response::new(Empty {}))
    }
}

/// The plugin's output after the handshake. There is none; without this service the host would log a problem at every
/// start.
#[derive(Debug)]
pub(super) struct Stdio;

#[async_trait]
impl GrpcStdio for Stdio {
    type StreamStdioStream = Pin<Box<dyn Stream<Item = Result<StdioData, Status>> + Send>>;

    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        Ok(Response::new(Box::pin(stream::pending())))
    }
}
