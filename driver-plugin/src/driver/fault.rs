//! What can go wrong with an rpc, and what Nomad makes of each.

use std::error::Error;
use std::iter;

use nomad_plugin_proto::structs::RecoverableError;
use tonic::{Code, Status};

use crate::exec::ExecError;
use crate::supervisor::{RecoverError, StartError};
use crate::task::Unlaunchable;

/// Why an rpc fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing is known of the task. The text is the one of Nomad's own drivers.
    #[error("task not found for given id")]
    UnknownTask,
    /// The request makes no sense.
    #[error("{0}")]
    Request(String),
    /// The task is not in a state that allows it.
    #[error("{0}")]
    Conflict(String),
    /// The task does not start, and will not on another attempt.
    #[error("{0}")]
    Final(String),
    /// It may help to try again.
    #[error("{0}")]
    Transient(String),
    /// Something between us and the task broke.
    #[error("{0}")]
    Internal(String),
    /// The driver has no networks of its own.
    #[error("the driver pg-leader-proxy makes no networks: tasks use the host's")]
    NoNetworks,
}

impl From<StartError> for Fault {
    fn from(error: StartError) -> Self {
        match error {
            // Nomad shows one line.
            StartError::Configuration(lines) => Self::Final(lines.join("; ")),
            StartError::Transient(problem) => Self::Transient(problem),
            StartError::Fatal(problem) => Self::Final(problem),
        }
    }
}

impl From<Unlaunchable> for Fault {
    fn from(error: Unlaunchable) -> Self {
        match error {
            // What the kernel refuses now it may grant later.
            Unlaunchable::Cgroups(_) => Self::Transient(error.to_string()),
            Unlaunchable::Settings(_) | Unlaunchable::Unsupported(_) | Unlaunchable::Incomplete(_) => {
                Self::Final(error.to_string())
            }
        }
    }
}

impl From<ExecError> for Fault {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::Empty | ExecError::TooLarge(_) => Self::Request(chain(&error)),
            ExecError::NotStarted(_) | ExecError::TimedOut(_) | ExecError::Lost(_) => {
                Self::Internal(chain(&error))
            }
        }
    }
}

impl From<RecoverError> for Fault {
    fn from(error: RecoverError) -> Self {
        Self::Internal(chain(&error))
    }
}

impl From<tokio::task::JoinError> for Fault {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Internal(format!("the work was given up: {error}"))
    }
}

/// `Unavailable` and `Cancelled` are never among the codes: Nomad takes them for the death of the plugin.
impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let text = fault.to_string();
        match fault {
            Fault::UnknownTask => Self::new(Code::NotFound, text),
            Fault::Request(_) => Self::new(Code::InvalidArgument, text),
            Fault::Conflict(_) | Fault::Internal(_) => Self::new(Code::Unknown, text),
            Fault::Final(_) => RecoverableError { recoverable: false }.status(text),
            Fault::Transient(_) => RecoverableError { recoverable: true }.status(text),
            Fault::NoNetworks => Self::new(Code::Unimplemented, text),
        }
    }
}

/// An error and everything below it, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(error.source(), |&error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Fault; 7] {
        let text = || "text".to_owned();
        [
            Fault::UnknownTask,
            Fault::Request(text()),
            Fault::Conflict(text()),
            Fault::Final(text()),
            Fault::Transient(text()),
            Fault::Internal(text()),
            Fault::NoNetworks,
        ]
    }

    #[test]
    fn pitfall_10_no_fault_looks_like_the_death_of_the_plugin() {
        for fault in all() {
            let code = Status::from(fault.clone()).code();
            assert!(!matches!(code, Code::Unavailable | Code::Cancelled | Code::Ok), "{fault:?}: {code}");
        }
    }

    #[test]
    fn pitfall_11_only_starts_say_whether_another_attempt_helps() {
        for fault in all() {
            let status = Status::from(fault.clone());
            let says = matches!(fault, Fault::Final(_) | Fault::Transient(_));
            assert_eq!(!status.details().is_empty(), says, "{fault:?}");
        }
        let recoverable = |fault| Status::from(fault).details().ends_with(&[0x12, 2, 0x08, 1]);
        assert!(recoverable(Fault::Transient(String::new())) && !recoverable(Fault::Final(String::new())));
    }

    #[test]
    fn an_unknown_task_has_the_text_of_nomads_own_drivers() {
        let status = Status::from(Fault::UnknownTask);
        assert_eq!((status.code(), status.message()), (Code::NotFound, "task not found for given id"));
    }

    #[test]
    fn every_fault_of_a_configuration_is_told_in_one_line() {
        let error = StartError::Configuration(vec!["a".into(), "b".into()]);
        assert_eq!(Fault::from(error), Fault::Final("a; b".into()));
    }
}
