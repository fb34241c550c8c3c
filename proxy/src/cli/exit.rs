//! How the program ends.

/// The exit codes of the program, as `sysexits.h` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Success,
    /// Something failed while it ran, or a test of connections failed.
    Failure,
    /// `status`: the proxy answers, and new sessions wait.
    Waiting,
    /// `status`: no proxy answers.
    Unreachable,
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
            Self::Configuration => 78,
        }
    }
}
