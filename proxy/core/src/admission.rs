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

    /// Why new sessions wait that any of these servers would do for, if they do. Each server has its own reason, but a
    /// pause concerns all of them.
    pub fn waits_for_any<'a>(admissions: impl Iterator<Item = &'a Self> + Clone) -> Option<&'a Reason> {
        if admissions.clone().any(|admission| *admission == Self::Open) {
            return None;
        }
        let paused = admissions.filter_map(Self::waits).find(|reason| **reason == Reason::PausedByOperator);
        Some(paused.unwrap_or(&Reason::NoReplica))
    }
}
