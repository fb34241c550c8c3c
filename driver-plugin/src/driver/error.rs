//! Errors of rpcs, and what Nomad makes of each.

use std::error::Error;
use std::iter;

use nomad_plugin_proto::structs::RecoverableError;
use tonic::{Code, Status};

use crate::exec::ExecError;
use crate::supervisor::{RecoverError, StartError};
use crate::tasks::PrepareError;

/// Why an rpc fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// The task is not known. The text is that of Nomad's own drivers (`plugins/drivers/errors.go`).
    #[error("task not found for given id")]
    UnknownTask,
    /// The request is invalid.
    #[error("{0}")]
    Request(String),
    /// The task's phase does not allow the request.
    #[error("{0}")]
    Conflict(String),
    /// The task cannot be started, and another attempt does not help.
    #[error("{0}")]
    Final(String),
    /// Another attempt to start the task may succeed.
    #[error("{0}")]
    Transient(String),
    /// The driver failed.
    #[error("{0}")]
    Internal(String),
    /// The driver creates no networks.
    #[error("the driver pg-leader-proxy creates no networks: tasks use the host's")]
    NoNetworks,
}

impl From<StartError> for RpcError {
    fn from(error: StartError) -> Self {
        match error {
            // Nomad shows a single line.
            StartError::Configuration(faults) => Self::Final(faults.join("; ")),
            StartError::Transient(problem) => Self::Transient(problem),
            StartError::Occupied(occupant) => Self::Transient(occupant.to_string()),
            StartError::Fatal(problem) => Self::Final(problem),
        }
    }
}

impl From<PrepareError> for RpcError {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Cgroups(_) | PrepareError::UserDatabase { .. } => {
                Self::Transient(error.to_string())
            }
            PrepareError::Config(_)
            | PrepareError::Unsupported(_)
            | PrepareError::Incomplete(_)
            | PrepareError::User(_)
            | PrepareError::Root(_) => Self::Final(chain(&error)),
        }
    }
}

impl From<ExecError> for RpcError {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::Empty | ExecError::TooLarge(_) => Self::Request(chain(&error)),
            ExecError::NotStarted(_) | ExecError::TimedOut(_) | ExecError::Lost(_) => {
                Self::Internal(chain(&error))
            }
        }
    }
}

impl From<RecoverError> for RpcError {
    fn from(error: RecoverError) -> Self {
        Self::Internal(chain(&error))
    }
}

impl From<tokio::task::JoinError> for RpcError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Internal(format!("the request was aborted: {error}"))
    }
}

/// The codes `Unavailable` and `Cancelled` are never used: Nomad takes them for the death of the plugin
/// (`helper/pluginutils/grpcutils`).
impl From<RpcError> for Status {
    fn from(error: RpcError) -> Self {
        let text = error.to_string();
        match error {
            RpcError::UnknownTask => Self::new(Code::NotFound, text),
            RpcError::Request(_) => Self::new(Code::InvalidArgument, text),
            RpcError::Conflict(_) | RpcError::Internal(_) => Self::new(Code::Unknown, text),
            RpcError::Final(_) => RecoverableError { recoverable: false }.status(text),
            RpcError::Transient(_) => RecoverableError { recoverable: true }.status(text),
            RpcError::NoNetworks => Self::new(Code::Unimplemented, text),
        }
    }
}

/// An error and its causes, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(error.source(), |&error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [RpcError; 7] {
        let text = || "text".to_owned();
        [
            RpcError::UnknownTask,
            RpcError::Request(text()),
            RpcError::Conflict(text()),
            RpcError::Final(text()),
            RpcError::Transient(text()),
            RpcError::Internal(text()),
            RpcError::NoNetworks,
        ]
    }

    #[test]
    fn pitfall_10_no_error_looks_like_the_death_of_the_plugin() {
        for error in all() {
            let code = Status::from(error.clone()).code();
            assert!(!matches!(code, Code::Unavailable | Code::Cancelled | Code::Ok), "{error:?}: {code}");
        }
    }

    #[test]
    fn pitfall_11_only_errors_of_a_start_say_whether_another_attempt_helps() {
        for error in all() {
            let status = Status::from(error.clone());
            let says = matches!(error, RpcError::Final(_) | RpcError::Transient(_));
            assert_eq!(!status.details().is_empty(), says, "{error:?}");
        }
        let recoverable = |error| Status::from(error).details().ends_with(&[0x12, 2, 0x08, 1]);
        assert!(
            recoverable(RpcError::Transient(String::new())) && !recoverable(RpcError::Final(String::new()))
        );
    }

    #[test]
    fn an_unknown_task_has_the_text_of_nomads_own_drivers() {
        let status = Status::from(RpcError::UnknownTask);
        assert_eq!((status.code(), status.message()), (Code::NotFound, "task not found for given id"));
    }

    #[test]
    fn all_faults_of_a_configuration_are_in_one_line() {
        let error = StartError::Configuration(vec!["a".into(), "b".into()]);
        assert_eq!(RpcError::from(error), RpcError::Final("a; b".into()));
    }
}
