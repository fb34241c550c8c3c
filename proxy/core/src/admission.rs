//! Admission: whether a server takes new sessions, apart from what becomes of those that it has.

use crate::reason::Reason;

/// Whether a server takes new sessions. Open ones go on either way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Admission {
    /// It does.
    Open,
    /// New ones wait, for this reason.
    Waits(Reason),
}

impl Admission {
    /// Why new sessions wait, if they do.
    pub const fn waits(&self) -> Option<&Reason> {
        match self {
            Self::Open => None,
            Self::Waits(reason) => Some(reason),
        }
    }
}
