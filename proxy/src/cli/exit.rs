//! How the program ends.

use std::io;

/// The exit codes of the program, as `sysexits.h` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Success,
    /// Something failed while it ran, a test of connections failed, or a running proxy refused a command.
    Failure,
    /// `status`: the proxy answers, and new sessions wait.
    Waiting,
    /// No running proxy answers.
    Unreachable,
    /// `status`: the proxy answers, and the answer could not be printed (`EX_SOFTWARE`).
    Unprinted,
    /// The command line is wrong (`EX_USAGE`).
    Usage,
    /// The configuration is wrong (`EX_CONFIG`).
    Configuration,
}

impl Exit {
    /// The number that the operating system is given.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure | Self::Waiting => 1,
            Self::Unreachable => 2,
            Self::Usage => 64,
            Self::Unprinted => 70,
            Self::Configuration => 78,
        }
    }
}

/// Whether the reader of the output has closed it.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
