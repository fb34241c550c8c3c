//! The rpcs of a task driver, in the order of the protocol.

mod error;
mod exec_rpcs;
mod lifecycle_rpcs;
mod monitor_rpcs;
mod shared_config;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{Stream, StreamExt as _};
use nomad_plugin_proto::driver::driver_server;
use nomad_plugin_proto::driver::{
    CapabilitiesRequest, CapabilitiesResponse, CreateNetworkRequest, CreateNetworkResponse,
    DestroyNetworkRequest, DestroyNetworkResponse, DestroyTaskRequest, DestroyTaskResponse, DriverTaskEvent,
    ExecTaskRequest, ExecTaskResponse, ExecTaskStreamingRequest, ExecTaskStreamingResponse,
    FingerprintRequest, FingerprintResponse, InitRequest, InitResponse, InspectTaskRequest,
    InspectTaskResponse, RecoverTaskRequest, RecoverTaskResponse, ShutdownRequest, ShutdownResponse,
    SignalTaskRequest, SignalTaskResponse, StartTaskRequest, StartTaskResponse, StopTaskRequest,
    StopTaskResponse, TaskConfigSchemaRequest, TaskConfigSchemaResponse, TaskEventsRequest, TaskStatsRequest,
    TaskStatsResponse, WaitTaskRequest, WaitTaskResponse,
};
use tonic::{Request, Response, Status, Streaming, async_trait};

pub use self::error::RpcError;
pub use self::shared_config::SharedConfig;
use crate::fingerprint::Program;
use crate::tasks::{Accounts, TaskEvents, TaskStore};
use crate::{about, job_config};

/// The driver: the tasks that it knows, and their events. Clones are the same driver.
#[derive(Clone, Debug)]
pub struct Driver {
    config: Arc<SharedConfig>,
    program: Arc<Program>,
    accounts: Accounts,
    store: TaskStore,
    events: TaskEvents,
    started: Instant,
}

impl Driver {
    /// A driver that knows no task yet. It must be created when the process starts, while the process's file is still
    /// the one on the disk.
    #[must_use]
    pub fn new(config: Arc<SharedConfig>) -> Self {
        let program = Arc::new(Program::of_this_process());
        Self {
            config,
            program,
            accounts: Accounts::default(),
            store: TaskStore::default(),
            events: TaskEvents::default(),
            started: Instant::now(),
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn messages<T: 'static>(stream: impl Stream<Item = T> + Send + 'static) -> Messages<T> {
    Box::pin(stream.map(Ok))
}

#[async_trait]
impl driver_server::Driver for Driver {
    /// Must not fail: Nomad would not use the driver again before the agent restarts.
    async fn init(&self, _: Request<InitRequest>) -> Answer<InitResponse> {
        Ok(Response::new(InitResponse {}))
    }

    async fn task_config_schema(
        &self,
        _: Request<TaskConfigSchemaRequest>,
    ) -> Answer<TaskConfigSchemaResponse> {
        Ok(Response::new(TaskConfigSchemaResponse { spec: Some(job_config::schema()) }))
    }

    async fn capabilities(&self, _: Request<CapabilitiesRequest>) -> Answer<CapabilitiesResponse> {
        Ok(Response::new(CapabilitiesResponse { capabilities: Some(about::capabilities()) }))
    }

    type FingerprintStream = Messages<FingerprintResponse>;

    async fn fingerprint(&self, _: Request<FingerprintRequest>) -> Answer<Self::FingerprintStream> {
        Ok(Response::new(messages(self.fingerprints())))
    }

    async fn recover_task(&self, request: Request<RecoverTaskRequest>) -> Answer<RecoverTaskResponse> {
        self.recover(request.into_inner()).await?;
        Ok(Response::new(RecoverTaskResponse {}))
    }

    async fn start_task(&self, request: Request<StartTaskRequest>) -> Answer<StartTaskResponse> {
        let handle = self.start(request.into_inner().task.unwrap_or_default()).await?;
        Ok(Response::new(StartTaskResponse::started(handle)))
    }

    async fn wait_task(&self, request: Request<WaitTaskRequest>) -> Answer<WaitTaskResponse> {
        Ok(Response::new(self.wait(&request.into_inner().task_id).await?))
    }

    async fn stop_task(&self, request: Request<StopTaskRequest>) -> Answer<StopTaskResponse> {
        self.stop(request.into_inner()).await?;
        Ok(Response::new(StopTaskResponse {}))
    }

    async fn destroy_task(&self, request: Request<DestroyTaskRequest>) -> Answer<DestroyTaskResponse> {
        self.destroy(request.into_inner()).await?;
        Ok(Response::new(DestroyTaskResponse {}))
    }

    async fn inspect_task(&self, request: Request<InspectTaskRequest>) -> Answer<InspectTaskResponse> {
        Ok(Response::new(self.inspect(&request.into_inner().task_id)?))
    }

    type TaskStatsStream = Messages<TaskStatsResponse>;

    async fn task_stats(&self, request: Request<TaskStatsRequest>) -> Answer<Self::TaskStatsStream> {
        Ok(Response::new(messages(self.stats(&request.into_inner())?)))
    }

    type TaskEventsStream = Messages<DriverTaskEvent>;

    async fn task_events(&self, _: Request<TaskEventsRequest>) -> Answer<Self::TaskEventsStream> {
        Ok(Response::new(messages(self.events.stream())))
    }

    /// Precedes the end of the plugin. Tasks continue, so there is nothing to do.
    async fn shutdown(&self, _: Request<ShutdownRequest>) -> Answer<ShutdownResponse> {
        Ok(Response::new(ShutdownResponse {}))
    }

    async fn signal_task(&self, request: Request<SignalTaskRequest>) -> Answer<SignalTaskResponse> {
        self.signal(request.into_inner()).await?;
        Ok(Response::new(SignalTaskResponse {}))
    }

    async fn exec_task(&self, request: Request<ExecTaskRequest>) -> Answer<ExecTaskResponse> {
        Ok(Response::new(self.exec(request.into_inner()).await?))
    }

    type ExecTaskStreamingStream = Messages<ExecTaskStreamingResponse>;

    async fn exec_task_streaming(
        &self,
        request: Request<Streaming<ExecTaskStreamingRequest>>,
    ) -> Answer<Self::ExecTaskStreamingStream> {
        Ok(Response::new(Box::pin(self.exec_streaming(request.into_inner()).await?)))
    }

    async fn create_network(&self, _: Request<CreateNetworkRequest>) -> Answer<CreateNetworkResponse> {
        Err(RpcError::NoNetworks.into())
    }

    async fn destroy_network(&self, _: Request<DestroyNetworkRequest>) -> Answer<DestroyNetworkResponse> {
        Err(RpcError::NoNetworks.into())
    }
}
