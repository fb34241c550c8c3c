//! Epochs: the number of confirmed leaders so far.

use std::fmt;

/// The number of confirmed leaders so far. A session belongs to the epoch in which it connected, and ends with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteEpoch(u64);

impl RouteEpoch {
    /// The next epoch.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number itself; 0 means that there has been no leader yet.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RouteEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
