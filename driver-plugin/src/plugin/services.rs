//! The services that go-plugin asks of every plugin: its end, its output, and streams between the two sides.

use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt as _};
use nomad_plugin_proto::plugin::grpc_broker_server::GrpcBroker;
use nomad_plugin_proto::plugin::grpc_controller_server::GrpcController;
use nomad_plugin_proto::plugin::grpc_stdio_server::GrpcStdio;
use nomad_plugin_proto::plugin::{ConnInfo, Empty, StdioData};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// Ends the plugin when the host says so.
#[derive(Debug)]
pub(super) struct Controller(watch::Sender<bool>);

impl Controller {
    /// A controller, and what becomes true when the plugin shall end.
    pub(super) fn new() -> (Self, watch::Receiver<bool>) {
        let (end, ended) = watch::channel(false);
        (Self(end), ended)
    }
}

#[async_trait]
impl GrpcController for Controller {
    /// Answers at once and does nothing more here: the host waits for the answer without a deadline.
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        tracing::debug!("the host ends the plugin; its tasks go on");
        self.0.send_replace(true);
        Ok(Response::new(Empty {}))
    }
}

/// A stream that lasts as long as the connection and never says anything.
type Silence<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the plugin prints beside its handshake: nothing.
#[derive(Debug)]
pub(super) struct Stdio;

#[async_trait]
impl GrpcStdio for Stdio {
    type StreamStdioStream = Silence<StdioData>;

    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        Ok(Response::new(Box::pin(stream::pending())))
    }
}

/// Further connections between host and plugin, which no driver needs.
#[derive(Debug)]
pub(super) struct Broker;

#[async_trait]
impl GrpcBroker for Broker {
    type StartStreamStream = Silence<ConnInfo>;

    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        let discarded = request.into_inner().filter_map(|_| async { None });
        Ok(Response::new(Box::pin(discarded.chain(stream::pending()))))
    }
}
