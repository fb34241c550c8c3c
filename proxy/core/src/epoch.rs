//! Epochs: the count of confirmed leaders, by which sessions know whether theirs still leads.

use std::fmt;

/// The count of confirmed leaders. A session belongs to the epoch it was connected in and ends with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteEpoch(u64);

impl RouteEpoch {
    /// The epoch after this one.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The count itself; 0 is before the first leader.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RouteEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
