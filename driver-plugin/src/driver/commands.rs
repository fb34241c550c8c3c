//! What is sent into a task: signals and commands.

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

use super::{Driver, Fault};
use crate::exec::{self, Entry};
use crate::signal;
use crate::supervisor::Supervisor;
use crate::task::Stage;

/// This program, even if its file has been replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// How long a client may take to say what to run, after it has said that it wants to.
const SETUP_TIME: Duration = Duration::from_secs(10);
/// How many pieces of a command's output may wait for the client.
const PIECES: usize = 8;

impl Driver {
    /// Sends a signal to the relay; SIGHUP makes it read its configuration again.
    pub(super) async fn signal(&self, request: SignalTaskRequest) -> Result<(), Fault> {
        let supervisor = self.living(&request.task_id)?;
        let signal = signal::parse(&request.signal).map_err(|error| Fault::Request(error.to_string()))?;
        let sent = supervisor.signal(signal).await;
        sent.map_err(|error| Fault::Internal(format!("the signal {signal} cannot be sent: {error}")))
    }

    /// Runs a command beside the task to its end.
    pub(super) async fn exec(&self, request: ExecTaskRequest) -> Result<ExecTaskResponse, Fault> {
        let entry = self.entry(&request.task_id, request.command).await?;
        let limit = request.timeout.and_then(|limit| Duration::try_from(limit).ok());
        let output =
            exec::run(Path::new(THIS_PROGRAM), &entry, limit.filter(|limit| !limit.is_zero())).await?;
        Ok(output.into())
    }

    /// Runs a command at whose streams somebody sits. Its first message says which. When the client goes, the command is
    /// killed.
    pub(super) async fn exec_streaming(
        &self,
        mut inbound: Streaming<ExecTaskStreamingRequest>,
    ) -> Result<impl Stream<Item = Result<ExecTaskStreamingResponse, Status>> + Send + use<>, Fault> {
        let first = timeout(SETUP_TIME, inbound.message()).await;
        let first = first.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let Some(Setup { task_id, command, tty }) = first.setup else {
            return Err(Fault::Request("the first message must say what to run".to_owned()));
        };
        let entry = self.entry(&task_id, command).await?;
        let (outbound, output) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            let ran = exec::stream(Path::new(THIS_PROGRAM), &entry, tty, inbound, outbound.clone()).await;
            if let Err(error) = ran {
                tracing::warn!(task_id, %error, "a command was not seen to its end");
                // Nobody may be there any more.
                let _ = outbound.send(Err(Fault::from(error).into())).await;
            }
        });
        Ok(ReceiverStream::new(output))
    }

    /// The command, with what the task itself was started with. Nothing of that is kept here: the supervisor has it.
    async fn entry(&self, id: &str, command: Vec<String>) -> Result<Entry, Fault> {
        let launch = self.living(id)?.launch().await;
        let launch = launch
            .map_err(|error| Fault::Internal(format!("the task's supervisor does not answer: {error}")))?;
        Ok(Entry {
            command,
            environment: launch.environment,
            directory: launch.directory,
            user: launch.user,
            cgroups: launch.cgroups,
        })
    }

    /// The task of that id, which must run.
    fn living(&self, id: &str) -> Result<Supervisor, Fault> {
        match self.known(id)?.stage() {
            Stage::Running(supervisor) => Ok(supervisor),
            Stage::Ended(_) => Err(Fault::Conflict("the task has ended".to_owned())),
        }
    }
}
