//! `SignalTask`, `ExecTask` and `ExecTaskStreaming`.

use std::path::Path;
use std::time::Duration;

use futures_util::stream::Stream;
use nomad_plugin_proto::driver::exec_task_streaming_request::Setup;
use nomad_plugin_proto::driver::{
    ExecTaskRequest, ExecTaskResponse, ExecTaskStreamingRequest, ExecTaskStreamingResponse, SignalTaskRequest,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Driver, RpcError};
use crate::exec::{self, ExecSpec};
use crate::roles::THIS_EXECUTABLE;
use crate::signal::Signal;
use crate::supervisor::SupervisorClient;
use crate::tasks::TaskPhase;

/// How long a client that has opened a stream may take to say what to run.
const SETUP_TIME: Duration = Duration::from_secs(10);
/// How many messages of a command may wait until the client reads them.
const MESSAGES_MAX: usize = 8;

impl Driver {
    /// Sends the proxy process a signal. SIGHUP makes it read its configuration again.
    pub(super) async fn signal(&self, request: SignalTaskRequest) -> Result<(), RpcError> {
        let supervisor = self.running_task(&request.task_id)?;
        let signal = Signal::parse(&request.signal).map_err(|error| RpcError::Request(error.to_string()))?;
        let sent = supervisor.signal(signal).await;
        sent.map_err(|error| RpcError::Internal(format!("cannot send the signal {signal}: {error}")))
    }

    /// Runs a command in the task to its end.
    pub(super) async fn exec(&self, request: ExecTaskRequest) -> Result<ExecTaskResponse, RpcError> {
        let spec = self.exec_spec(&request.task_id, request.command).await?;
        let limit = request.timeout.and_then(|limit| Duration::try_from(limit).ok());
        let limit = limit.filter(|limit| !limit.is_zero());
        Ok(exec::run(Path::new(THIS_EXECUTABLE), &spec, limit).await?.into())
    }

    /// Runs a command with the client at its streams. The client's first message says which command. The command is
    /// killed when the client goes.
    pub(super) async fn exec_streaming(
        &self,
        mut inbound: Streaming<ExecTaskStreamingRequest>,
    ) -> Result<impl Stream<Item = Result<ExecTaskStreamingResponse, Status>> + Send + use<>, RpcError> {
        let first = timeout(SETUP_TIME, inbound.message()).await;
        let first = first.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let Some(Setup { task_id, command, tty }) = first.setup else {
            return Err(RpcError::Request("the first message must say what to run".to_owned()));
        };
        let spec = self.exec_spec(&task_id, command).await?;
        let (outbound, output) = mpsc::channel(MESSAGES_MAX);
        tokio::spawn(async move {
            let ran = exec::stream(Path::new(THIS_EXECUTABLE), &spec, tty, inbound, outbound.clone()).await;
            if let Err(error) = ran {
                tracing::warn!(task_id, %error, "a command in the task failed");
                // The client may have gone.
                let _ = outbound.send(Err(RpcError::from(error).into())).await;
            }
        });
        Ok(ReceiverStream::new(output))
    }

    /// A command with the environment, directory, user and cgroups of the task. The supervisor alone knows them.
    async fn exec_spec(&self, id: &str, command: Vec<String>) -> Result<ExecSpec, RpcError> {
        let launch = self.running_task(id)?.launch_spec().await;
        let launch = launch
            .map_err(|error| RpcError::Internal(format!("the task's supervisor does not reply: {error}")))?;
        let account = match launch.account {
            Some(account) => Some(account),
            // An older supervisor tells the name alone.
            None => self.accounts.of_task(launch.user.as_deref().unwrap_or_default()).await?,
        };
        Ok(ExecSpec {
            command,
            environment: launch.environment,
            directory: launch.directory,
            account,
            cgroups: launch.cgroups,
        })
    }

    fn running_task(&self, id: &str) -> Result<SupervisorClient, RpcError> {
        match self.task(id)?.phase() {
            TaskPhase::Running(supervisor) => Ok(supervisor),
            TaskPhase::Exited(_) => Err(RpcError::Conflict("the task has exited".to_owned())),
        }
    }
}
